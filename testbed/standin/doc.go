// Package standin holds what the stand-ins for remote systems share: a clock
// that a test can move, faults that a test can inject into any request, and a
// listener on loopback.
//
// A stand-in is a small server that behaves as the real system does in the
// ways that matter to a client, its unpleasant ways included. It is written
// from the facts known of the real system and never from what our client
// happens to send, so that a mistaken client fails against it.
package standin
