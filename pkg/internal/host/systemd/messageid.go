package systemd

import "github.com/workersd/workersd/pkg/internal/event"

// The MESSAGE_ID of each kind of record, by which `journalctl -x` finds the
// text in units/workersd.catalog and others find the records. They never change.
var messageIDs = map[event.Kind]string{
	event.Created:         "498e088eabe146e68025f9cdb68762a1",
	event.Ready:           "41d62f7233dd4bc08c9c8c6262280c57",
	event.Recycling:       "2a6d72dc978e4589b84fa7823001da9e",
	event.Stopping:        "daf383a59fc84e35b340006fd8810ab2",
	event.Killing:         "cf0a512855a74080b6b51796dbc967c6",
	event.Gone:            "92fb5104dc12458ca5b4f260f5da2517",
	event.NotStarted:      "48b20031f1024cb68bcf67c95a5c1087",
	event.BackingOff:      "bcc97c16a1864ce4a8972928bbbd845a",
	event.Ended:           "a7818ac0a2c84ca69861698470c6de3f",
	event.Stuck:           "4eef35e308e54bd38dd5b0b38dca0441",
	event.Changed:         "c9bae5acf7b94340bc1c1d3b265661d1",
	event.Warning:         "25309e40d736426b8e015bec285b29ca",
	event.ManagerStarted:  "10d22df3d5e0452fb701d80b3958acc0",
	event.ManagerReloaded: "80836b11e7ac4dc4bfc17d4f2ac0fc93",
	event.ManagerRefused:  "15729ff4bf2645a99e4ceac89633e7c8",
	event.ManagerStopping: "9c9acbf7f851400f8c71600c8776b732",
	event.ManagerStopped:  "9dfc139ad8c94b4a98c3b4e562f57df1",
}

// memoryMessageID is that of a Gone for want of memory, which has a catalog
// text of its own: there is more to be done about it.
const memoryMessageID = "7248479e7bf04e33a81e317a868e3084"

// MessageID is the MESSAGE_ID of r.
func MessageID(r event.Record) string {
	if r.Kind == event.Gone {
		switch r.Reason {
		case event.HardMemory, event.PoolMemory, event.UnitMemory, event.HostMemory:
			return memoryMessageID
		}
	}
	return messageIDs[r.Kind]
}
