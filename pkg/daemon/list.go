package daemon

import (
	"fmt"
	"os"
	"strconv"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/spec"
)

// listOptions are what a list means here.
func (d *daemon) listOptions() config.Options {
	o := config.Options{MemoryTotal: procmem.Total()}
	if os.Geteuid() != 0 {
		o.Forbidden = map[string]string{
			"user":  "an unprivileged manager cannot become another user (run workersd as root, or remove it)",
			"group": "an unprivileged manager cannot become another group (run workersd as root, or remove it)",
		}
		if d.service {
			o.Forbidden["io_weight"] = "systemd delegates no io controller to user services (remove it)"
		}
	}
	// Who calls us by sudo in a terminal could do all this by himself.
	if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && !d.service {
		o.Owners = append(o.Owners, uid)
	}
	return o
}

// load reads the manager's list. The files are what the list was made from.
func (d *daemon) load() (spec.List, []config.File, error) {
	if d.o.List != nil {
		return *d.o.List, nil, nil
	}
	o := d.listOptions()
	files, errs := config.Read(d.o.Config, o)
	if len(errs) > 0 {
		return spec.List{}, nil, errs
	}
	l, err := config.Parse(files, o)
	return l, files, err
}

// first is the list that a manager starts with. After a manager that was killed
// it is, where the list has been broken meanwhile, the last accepted one: an
// automatic restart must not take all workers down for a typing error.
func (d *daemon) first() (l spec.List, files []config.File, instead error, err error) {
	l, files, err = d.load()
	if err == nil {
		return l, files, nil, nil
	}
	if !d.service {
		return l, nil, nil, err
	}
	saved, serr := loadAccepted(d.place.accepted())
	if serr != nil || saved == nil {
		return l, nil, nil, err
	}
	old, perr := config.Parse(saved, d.listOptions())
	if perr != nil {
		return l, nil, nil, err
	}
	return old, saved, err, nil
}

// warnUnenforced says loudly what of a list does nothing on this machine.
func (d *daemon) warnUnenforced(l spec.List) {
	if ok, because := d.host.Enforced("memory_limit"); !ok && l.Manager.MemoryLimit.Set() {
		d.log.Error(fmt.Sprintf("[manager] memory_limit is not enforced: %s", because))
	}
	def := spec.Default("")
	said := map[string]bool{}
	for i := range l.Workers {
		w := &l.Workers[i]
		for _, k := range spec.Keys {
			if k.Worker == nil || said[w.Entry+k.Name] || !differs(k, w, &def) {
				continue
			}
			if ok, because := d.host.Enforced(k.Name); !ok {
				said[w.Entry+k.Name] = true
				d.log.Error(fmt.Sprintf("worker %q: %s is not enforced: %s", w.Entry, k.Name, because))
			}
		}
	}
}

func differs(k spec.Key, a, b *spec.Worker) bool {
	switch k.Name {
	case "swap_limit", "cpu_max", "cpu_weight", "io_weight", "pids_max":
		return fmt.Sprint(deref(k.Worker(a))) != fmt.Sprint(deref(k.Worker(b)))
	}
	return false
}

func deref(p any) any {
	switch p := p.(type) {
	case *int:
		return *p
	case *float64:
		return *p
	case *spec.Bytes:
		return *p
	}
	return p
}
