package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/workersd/workersd/pkg/internal/config"
)

// The last accepted list is kept beside the control socket while a manager
// runs, and removed at its orderly end. A manager that finds one follows a
// manager that was killed: an automatic restart, where a list that has been
// broken meanwhile must not take all workers down.

func saveAccepted(path string, files []config.File) error {
	b, err := json.Marshal(files)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// loadAccepted returns nil where no manager was killed here.
func loadAccepted(path string) ([]config.File, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []config.File
	if err := json.Unmarshal(b, &files); err != nil {
		return nil, err
	}
	return files, nil
}
