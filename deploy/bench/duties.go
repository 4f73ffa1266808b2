package main

import (
	"fmt"
	"syscall"
)

// duty is something that a supervisor does for each process beside its start. The
// functions are called in the floor's one loop.
type duty interface {
	// begin makes what the process gets; started is called once it runs.
	begin(attr *syscall.ProcAttr) (started func(pid int), err error)
	ended(pid int)
	close()
}

// duties are the least that can be done by who promises what workersd does. What
// they cost is what the promises cost, whoever keeps them.
type duties []duty

// terminalDuties are those of workersd in a terminal.
func terminalDuties(dir string) (all duties, err error) {
	err = all.add(
		func() (duty, error) { return newSockets(dir) },
		func() (duty, error) { return newNotices() },
		func() (duty, error) { return newLooks(), nil },
	)
	return all, err
}

// serviceDuties are those of workersd as a service of systemd: the kernel looks
// at the memory there, and journald takes the output and the records.
func serviceDuties(dir string) (all duties, err error) {
	err = all.add(
		func() (duty, error) { return newSockets(dir) },
		func() (duty, error) { return newStreams() },
		func() (duty, error) { return newLeaves() },
	)
	return all, err
}

func (all *duties) add(makers ...func() (duty, error)) error {
	for _, make := range makers {
		d, err := make()
		if err != nil {
			return err
		}
		*all = append(*all, d)
	}
	return nil
}

func (all duties) begin(attr *syscall.ProcAttr) (started func(pid int)) {
	begun := make([]func(int), 0, len(all))
	for _, d := range all {
		started, err := d.begin(attr)
		if err != nil {
			fatal("floor: %v", err)
		}
		begun = append(begun, started)
	}
	return func(pid int) {
		for _, started := range begun {
			started(pid)
		}
	}
}

func (all duties) ended(pid int) {
	for _, d := range all {
		d.ended(pid)
	}
}

func (all duties) close() {
	for _, d := range all {
		d.close()
	}
}

// dutiesOf are those of that name; dir is for their files.
func dutiesOf(name, dir string) (duties, error) {
	switch name {
	case "none":
		return nil, nil
	case "terminal":
		return terminalDuties(dir)
	case "service":
		return serviceDuties(dir)
	}
	return nil, fmt.Errorf("no duties are called %q", name)
}
