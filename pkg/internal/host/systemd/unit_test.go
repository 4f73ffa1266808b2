package systemd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnUnit(t *testing.T) {
	for text, want := range map[string]string{
		"0::/workersd.slice/workersd.service/manager\n":                                     "workersd.service",
		"12:cpu:/x\n0::/system.slice/a.service\n":                                           "a.service",
		"0::/system.slice/workersd-7.scope\n":                                               "workersd-7.scope",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/workersd.service/x.y\n": "user@1000.service",
		"0::/workersd.slice\n":                                                              "",
		"0::/\n":                                                                            "",
		"0::/docker/0123\n":                                                                 "",
		"12:cpu:/x\n":                                                                       "",
	} {
		file := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := ownUnit(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := ownUnit("/nonexistent"); got != "" {
		t.Errorf("without the file: %q", got)
	}
}

// never are directives that break what the unit is for; the unit says why.
var never = []string{"RestrictNamespaces", "ProtectControlGroups", "PrivateUsers", "DynamicUser"}

// Units are read by people who decide whether they can live with a line.
func TestEveryLineOfAUnitHasItsReason(t *testing.T) {
	units := "../../../../units/"
	service := unit(t, units+"workersd.service")
	for _, file := range []string{"workersd.service", "workersd.slice", "hardened.conf", "user/workersd.service"} {
		for section, lines := range unit(t, units+file) {
			for _, l := range lines {
				for _, n := range never {
					if strings.HasPrefix(l.text, n+"=") {
						t.Errorf("%s: %s must not be set", file, n)
					}
				}
				// What explains itself: sections of names, and of [Install].
				if section != "Service" || l.explained {
					continue
				}
				if file == "user/workersd.service" && explainedIn(service["Service"], l.text) {
					continue
				}
				t.Errorf("%s: %q has no reason above it", file, l.text)
			}
		}
	}
	text, err := os.ReadFile(units + "workersd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range never {
		if !strings.Contains(string(text), "# "+n+"=") {
			t.Errorf("workersd.service does not say why %s is absent", n)
		}
	}
}

type line struct {
	text      string
	explained bool
}

// unit are the lines of a unit by section. A line is explained by a comment
// above it, and above those of the same group, which nothing separates.
func unit(t *testing.T, file string) map[string][]line {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections, section, explained := map[string][]line{}, "", false
	for text := range strings.Lines(string(b)) {
		switch text = strings.TrimSpace(text); {
		case text == "":
			explained = false
		case text[0] == '[':
			section, explained = strings.Trim(text, "[]"), false
		case text[0] == '#':
			explained = true
		default:
			sections[section] = append(sections[section], line{text, explained})
		}
	}
	if len(sections) == 0 {
		t.Fatalf("%s is empty", file)
	}
	return sections
}

func explainedIn(lines []line, text string) bool {
	for _, l := range lines {
		if l.text == text {
			return l.explained
		}
	}
	return false
}
