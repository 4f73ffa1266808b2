//go:build race

package main

// raceEnabled: the programs under test are built with the race detector too.
const raceEnabled = true
