package process

import "os"

// selfLink leads to the file that a process runs, also when that was removed.
const selfLink = "/proc/self/exe"

// Self is a path to the program that we run, the very file: the one it was
// started by, so that ps and top show its name, unless another file stands there
// by now (an upgrade; `go run`, which removes what it built).
func Self() string { return self(selfLink, os.Executable) }

func self(link string, executable func() (string, error)) string {
	path, err := executable()
	if err != nil {
		return link
	}
	ours, err1 := os.Stat(link)
	there, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(ours, there) {
		return link
	}
	return path
}
