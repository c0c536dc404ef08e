package ocpp

// Direction is the way a message goes: Up from the station, Down to it.
type Direction string

const (
	Up   Direction = "up"
	Down Direction = "down"
)
