package pagerduty

import (
	"net/http"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// The failures of PagerDuty, for Server.Faults.Inject. Each hits the requests
// that method and path select (see standin.Fault), times times, 0 meaning until
// Faults.Clear. For a failure whose write took effect, set AfterEffect on what
// they return.

const jsonType = "application/json; charset=utf-8"

// RateLimited is a 429 with the three headers: reset is in whole seconds.
func RateLimited(method, path string, times int, reset time.Duration) standin.Fault {
	f := BareRateLimited(method, path, times)
	f.Header.Set("ratelimit-limit", "960")
	f.Header.Set("ratelimit-remaining", "0")
	f.Header.Set("ratelimit-reset", itoa(int((reset+time.Second-1)/time.Second)))
	return f
}

// BareRateLimited is a 429 without any header to wait by.
func BareRateLimited(method, path string, times int) standin.Fault {
	return standin.Fault{
		Method: method, Path: path, Times: times, Status: http.StatusTooManyRequests,
		Header: http.Header{"Content-Type": {jsonType}},
		Body:   `{"error":{"message":"Rate Limit Exceeded","code":2020}}`,
	}
}

// RequestTimeout is a 408.
func RequestTimeout(method, path string, times int) standin.Fault {
	return standin.Fault{
		Method: method, Path: path, Times: times, Status: http.StatusRequestTimeout,
		Header: http.Header{"Content-Type": {jsonType}},
		Body:   `{"error":{"message":"Request Timeout","code":2016}}`,
	}
}

// BadGateway is a 502 with a page of HTML, as a proxy sends it.
func BadGateway(method, path string, times int) standin.Fault {
	return standin.Fault{
		Method: method, Path: path, Times: times, Status: http.StatusBadGateway,
		Header: http.Header{"Content-Type": {"text/html"}},
		Body:   "<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n",
	}
}

// Slow holds the answer back.
func Slow(method, path string, times int, delay time.Duration) standin.Fault {
	return standin.Fault{Method: method, Path: path, Times: times, Delay: delay}
}

// ConnectionReset breaks the connection after the write was applied: the client
// can not know whether it was.
func ConnectionReset(method, path string, times int) standin.Fault {
	return standin.Fault{Method: method, Path: path, Times: times, Reset: true, AfterEffect: true}
}
