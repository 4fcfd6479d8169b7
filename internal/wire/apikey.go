package wire

import "strconv"

// APIKey is the number of an API, the first field of every request.
type APIKey int16

// String returns the API's name, such as ListOffsets, or "API 4711" for a key outside the protocol.
func (k APIKey) String() string {
	if k >= 0 && int(k) < len(apiNames) && apiNames[k] != "" {
		return apiNames[k]
	}
	return "API " + strconv.Itoa(int(k))
}
