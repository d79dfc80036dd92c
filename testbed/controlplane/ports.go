package controlplane

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken below the range from which Linux gives ports to outgoing
// connections (32768 and up), so that none of these takes a port between our
// finding it free and the component's listening on it.
const firstPort, lastPort = 20000, 32000

// takenPorts remembers the ports given out in this process, so that clusters that
// start at the same time do not find the same one free.
var takenPorts = struct {
	sync.Mutex
	taken map[int]bool
}{taken: map[int]bool{}}

type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager, scheduler, kwok int
}

func freePorts() (ports, error) {
	var p ports
	for _, port := range []*int{&p.etcdClient, &p.etcdPeer, &p.apiServer, &p.controllerManager, &p.scheduler, &p.kwok} {
		free, err := FreePort()
		if err != nil {
			return ports{}, err
		}
		*port = free
	}
	return p, nil
}

// FreePort is a loopback port that nobody listens on, below those that Linux gives to outgoing connections: it stays
// free for whoever listens on it later, and again after a restart. It is given out once in this process.
func FreePort() (int, error) {
	takenPorts.Lock()
	defer takenPorts.Unlock()
	var last error
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if takenPorts.taken[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("close probe of port %d: %w", port, err)
		}
		takenPorts.taken[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("find a free loopback port in %d to %d: %w", firstPort, lastPort, last)
}
