package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Generations is the floor below which generations may have been used, on disk:
// after a crash a manager begins above it, and no generation comes twice.
type Generations struct {
	path string
	last uint64
	ask  chan reservation // buffer of 1: the supervisor asks one at a time
	wg   sync.WaitGroup
}

type reservation struct {
	floor uint64
	done  func()
}

// OpenGenerations reads the floor that was kept in dir; without dir there is
// none. It is above used, which the history knows: the file may be damaged, or
// gone. Problem is told of what cannot be read or written.
func OpenGenerations(dir string, used uint64, problem func(string)) (*Generations, error) {
	g := &Generations{last: 1}
	if dir == "" {
		return g, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	g.path = filepath.Join(dir, "generations")
	if err := g.load(); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if g.last <= used {
		g.last = used + 1
		problem(fmt.Sprintf("%s lacks generations that the history has: they go on from %d", g.path, g.last))
	}
	g.ask = make(chan reservation, 1)
	g.wg.Go(func() {
		bad := false
		for r := range g.ask {
			err := g.save(r.floor)
			if err != nil && !bad {
				problem(fmt.Sprintf("generations cannot be reserved on disk: %v (after a crash some may come again)", err))
			}
			bad = err != nil
			r.done() // the workers matter more than their numbers
		}
	})
	return g, nil
}

// load finds the highest floor that is whole.
func (g *Generations) load() error {
	f, err := os.Open(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return eachLine(f, func(line []byte, _ bool) {
		if text, ok := unseal(line); ok {
			if n, err := strconv.ParseUint(string(text), 10, 64); err == nil {
				g.last = max(g.last, n)
			}
		}
	})
}

// Floor is the least generation that no earlier manager has used.
func (g *Generations) Floor() uint64 { return g.last }

// Reserve moves the floor on disk and then calls done. It does not wait.
func (g *Generations) Reserve(floor uint64, done func()) {
	if g.ask == nil {
		go done()
		return
	}
	g.ask <- reservation{floor, done}
}

// Close waits for what was asked.
func (g *Generations) Close() {
	if g.ask != nil {
		close(g.ask)
		g.wg.Wait()
	}
}

// maxGenerations is the size at which the file is made anew, beside itself.
const maxGenerations = 64 << 10

// save appends a floor; it is on the disk when save returns, with the name of
// the file.
func (g *Generations) save(floor uint64) error {
	flags := os.O_CREATE | os.O_RDWR | os.O_APPEND
	path := g.path
	st, err := os.Stat(g.path)
	if err == nil && st.Size() > maxGenerations {
		path, flags = g.path+".new", os.O_CREATE|os.O_RDWR|os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	line := seal(strconv.AppendUint(nil, floor, 10))
	if endsTorn(f, now.Size()) { // by a crash, or a disk that was full
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if path != g.path {
		if err := os.Rename(path, g.path); err != nil {
			return err
		}
	} else if now.Size() > 0 {
		return nil
	}
	return syncDir(filepath.Dir(g.path))
}

// syncDir makes names in dir survive a crash (fsync(2)).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Stops are the workers that an operator stopped, in the runtime directory:
// they survive a restart of the manager, and not a reboot.
type Stops struct{ Path string }

// Load reads them; a file that is not there, or torn, is no stops.
func (s Stops) Load() []string {
	b, err := os.ReadFile(s.Path)
	if err != nil {
		return nil
	}
	text, ok := unseal(bytes.TrimSuffix(b, []byte{'\n'}))
	var names []string
	if !ok || json.Unmarshal(text, &names) != nil {
		return nil
	}
	return names
}

// Save writes them in a file of their own and puts that in place.
func (s Stops) Save(names []string) error {
	text, err := json.Marshal(names)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.Path+".new", seal(text), 0o600); err != nil {
		return err
	}
	return os.Rename(s.Path+".new", s.Path)
}
