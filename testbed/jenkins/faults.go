package jenkins

import (
	"net/http"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// The failures of Jenkins, for Server.Faults.Inject; method and path select the
// requests as in standin.Fault, and times 0 means until Faults.Clear.

// ServerError is a 500 with a page, before anything took effect.
func ServerError(method, path string, times int) standin.Fault {
	return standin.Fault{Method: method, Path: path, Times: times, Status: http.StatusInternalServerError, Body: "<html><body>A problem occurred</body></html>\n"}
}

// Forbidden is a 403.
func Forbidden(method, path string, times int) standin.Fault {
	return standin.Fault{Method: method, Path: path, Times: times, Status: http.StatusForbidden, Body: "<html><body>Forbidden</body></html>\n"}
}

// LostAnswer lets the request take effect and then keeps silent for delay: a
// client that gives up sooner can not know what happened.
func LostAnswer(method, path string, times int, delay time.Duration) standin.Fault {
	return standin.Fault{Method: method, Path: path, Times: times, AfterEffect: true, Delay: delay}
}
