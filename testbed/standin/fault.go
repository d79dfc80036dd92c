package standin

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"path"
	"sync"
	"time"
)

// maxBody bounds what a stand-in reads of one request, in bytes.
const maxBody = 4 << 20

// Fault is one way in which a request goes wrong. The zero value matches every
// request and changes nothing.
type Fault struct {
	// Method and Path select requests; empty means any. Path is a pattern of
	// path.Match: "/incidents/*/notes".
	Method, Path string
	// Times is how many matching requests it hits; 0 means all of them until
	// Clear.
	Times int

	// AfterEffect lets the request take its full effect first and spoils only
	// the answer. This is the ambiguous failure: the client can not know.
	AfterEffect bool
	// Delay holds the answer back. A client that gives up meanwhile ends it.
	Delay time.Duration
	// Reset breaks the TCP connection instead of answering.
	Reset bool
	// Status, Header and Body replace the answer when Status is not 0.
	Status int
	Header http.Header
	Body   string
}

func (f *Fault) matches(r *http.Request) bool {
	if f.Method != "" && f.Method != r.Method {
		return false
	}
	if f.Path == "" {
		return true
	}
	ok, err := path.Match(f.Path, r.URL.Path)
	return err == nil && ok
}

// Faults is the list of faults that a stand-in presently has. The zero value is
// a healthy server.
type Faults struct {
	mu   sync.Mutex
	list []*Fault
	hits int
}

// Inject adds a fault. The oldest that matches a request hits it.
func (f *Faults) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &fault)
}

// Clear removes all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// Hits returns how many requests were hit so far.
func (f *Faults) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

func (f *Faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if !fault.matches(r) {
			continue
		}
		f.hits++
		if fault.Times > 0 {
			fault.Times--
			if fault.Times == 0 {
				f.list = append(f.list[:i:i], f.list[i+1:]...)
			}
		}
		return *fault, true
	}
	return Fault{}, false
}

// Wrap returns a handler that puts the faults in front of next.
func (f *Faults) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, hit := f.take(r)
		if !hit {
			next.ServeHTTP(w, r)
			return
		}
		// The body is read before anything else: net/http notices that a client
		// has gone only once the request's body is consumed.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))

		answer := answer{header: http.Header{}, status: http.StatusOK}
		if fault.AfterEffect {
			next.ServeHTTP(&answer, r)
		}
		if fault.Delay > 0 {
			delay := time.NewTimer(fault.Delay)
			defer delay.Stop()
			select {
			case <-delay.C:
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case fault.Reset:
			reset(w)
		case fault.Status != 0:
			maps.Copy(w.Header(), fault.Header)
			w.WriteHeader(fault.Status)
			_, _ = io.WriteString(w, fault.Body)
		case fault.AfterEffect:
			maps.Copy(w.Header(), answer.header)
			w.WriteHeader(answer.status)
			_, _ = w.Write(answer.body.Bytes())
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// answer is a ResponseWriter that keeps what a handler said.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// reset ends the connection with a TCP RST, so that the client sees "connection
// reset by peer" and not an orderly end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's own way to drop a connection.
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
