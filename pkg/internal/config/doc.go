// Package config reads the worker list: bytes in, complete workers or every
// error at once out.
package config
