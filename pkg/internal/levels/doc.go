// Package levels holds the test that imports go downward only.
package levels
