// Package notify hears what workers say of themselves.
package notify
