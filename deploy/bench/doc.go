// Command bench runs supervisors side by side, in one run on one machine, and
// prints their times and CPU as ratios to a floor: the least that a Go program
// can do, fork and exec and one wait4 loop. Absolute times are not judged.
package main
