package config_test

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// seed gives the fuzzer every list of testdata to begin with.
func seed(f *testing.F) {
	archives, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var list, dropin []byte
		for _, file := range a.Files {
			switch {
			case file.Name == "list.toml":
				list = file.Data
			case file.Name != "want" && dropin == nil:
				dropin = file.Data
			}
		}
		f.Add(list, dropin)
	}
}
