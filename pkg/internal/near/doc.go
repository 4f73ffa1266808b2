// Package near finds the word that somebody who mistyped another one meant.
package near
