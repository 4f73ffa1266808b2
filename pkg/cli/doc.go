// Package cli is the commands of workersctl.
package cli
