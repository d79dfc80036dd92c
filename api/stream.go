package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

const (
	streamSuffix = "/stream"
	maxStreams   = 64
	// streamPoll is how often a followed run is asked for its newest change, by its primary key: with all streams open, 128 reads a
	// second. Asking needs no connection of its own as LISTEN would, passes every pooler, and loses nothing.
	streamPoll  = 500 * time.Millisecond
	streamBeat  = 15 * time.Second
	streamWrite = 10 * time.Second // a reader who takes longer for an event is dropped, and may come again
	// streamLife bounds how long a token that was taken back is still good for a stream.
	streamLife = 15 * time.Minute
)

var validChange = regexp.MustCompile(`^[0-9]{1,18}$`)

// stream follows a run: what has happened, what happens, and the end.
func (s *Server) stream(c *gin.Context) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	after := int64(-1) // what a migration could not number is numbered 0
	if text := c.GetHeader("Last-Event-ID"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || !validChange.MatchString(text) {
			return fieldErrors{{"Last-Event-ID", "is not the id of an event of this stream"}}
		}
		after = n
	}
	id := c.Param("id")
	// The first read is an answer like any other, with a status.
	changes, err := s.changes(c, id, after)
	if err != nil {
		return err
	}
	if changes.Run.State.Ended() && after > changes.Last {
		c.Status(http.StatusNoContent) // which tells a browser's EventSource not to come again
		return nil
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return errTooManyStreams
	}
	w := newEventWriter(c, s.Now)
	if err := s.follow(c, w, changes, after); err != nil {
		// The status is sent: all that is left is to close. The client comes again with the last id that it saw.
		s.log.DebugContext(c.Request.Context(), "stream broke off", "run", id, "error", err)
	}
	return nil
}

func (s *Server) changes(c *gin.Context, id string, after int64) (playbook.RunChanges, error) {
	changes, err := s.History.Changes(c.Request.Context(), id, after)
	if err == nil && !tokenOf(c).isFor(changes.Run.Target.Carrier) {
		return playbook.RunChanges{}, playbook.ErrNoRun
	}
	return changes, err
}

// follow writes changes until the run has ended, or the stream must.
func (s *Server) follow(c *gin.Context, w *eventWriter, changes playbook.RunChanges, after int64) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), streamLife)
	defer cancel()
	poll, beat := time.NewTicker(streamPoll), time.NewTicker(streamBeat)
	defer poll.Stop()
	defer beat.Stop()
	for {
		for _, change := range changes.Changes {
			if err := w.change(change); err != nil {
				return err
			}
		}
		after = max(after, changes.Last)
		if changes.Run.State.Ended() {
			return w.event(changes.Last+1, "end", newRunJSON(changes.Run))
		}
		if err := w.flush(); err != nil {
			return err
		}
		if again, err := s.await(ctx, w, poll.C, beat.C, changes.Run.ID, after); !again {
			return err
		}
		var err error
		if changes, err = s.History.Changes(ctx, changes.Run.ID, after); err != nil {
			return err
		}
	}
}

// await waits for something to happen in the run; false when the stream must end first.
func (s *Server) await(ctx context.Context, w *eventWriter, poll, beat <-chan time.Time, id string, after int64) (bool, error) {
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-s.stopping:
			return false, nil
		case <-beat:
			if err := w.comment("still here"); err != nil {
				return false, err
			}
		case <-poll:
			last, ended, err := s.History.LastChange(ctx, id)
			if err != nil {
				return false, err
			}
			if last > after || ended {
				return true, nil
			}
		}
	}
}

// eventWriter writes server-sent events.
type eventWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	now Clock
}

func newEventWriter(c *gin.Context, now Clock) *eventWriter {
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events otherwise
	c.Writer.WriteHeader(http.StatusOK)
	w := &eventWriter{w: c.Writer, rc: http.NewResponseController(c.Writer), now: now}
	// The server's limit for reading a request would end this one as well. What can not be set is not there to be lifted.
	_ = w.rc.SetReadDeadline(time.Time{})
	return w
}

func (w *eventWriter) change(c playbook.RunChange) error {
	if c.Tick != nil {
		return w.event(c.Seq, "tick", newTickJSON(*c.Tick))
	}
	return w.event(c.Seq, "intent", newIntentJSON(*c.Intent))
}

func (w *eventWriter) event(id int64, name string, data any) error {
	b, err := json.Marshal(data) // on one line
	if err != nil {
		return fmt.Errorf("encode event %d: %w", id, err)
	}
	if id > 0 { // without a number it can not be gone on after: a client that breaks off among those is sent them again
		name = fmt.Sprintf("%s\nid: %d", name, id)
	}
	return w.write("event: %s\ndata: %s\n\n", name, b)
}

func (w *eventWriter) comment(text string) error {
	if err := w.write(": %s\n\n", text); err != nil {
		return err
	}
	return w.flush()
}

func (w *eventWriter) write(format string, args ...any) error {
	_ = w.rc.SetWriteDeadline(w.now().Add(streamWrite))
	if _, err := fmt.Fprintf(w.w, format, args...); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

func (w *eventWriter) flush() error {
	_ = w.rc.SetWriteDeadline(w.now().Add(streamWrite))
	if err := w.rc.Flush(); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}
