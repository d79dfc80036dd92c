package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcd runs one etcd member over plain HTTP. It trades durability for speed
// (no fsync), as the data never outlive the control plane that they belong to.
func etcd() int {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dataDir := flags.String("data-dir", "", "directory for the data")
	clientURL := flags.String("listen-client-url", "http://127.0.0.1:2379", "where clients connect")
	peerURL := flags.String("listen-peer-url", "http://127.0.0.1:2380", "where peers would connect")
	logLevel := flags.String("log-level", "warn", "debug, info, warn or error")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return 2
	}
	if err := serveEtcd(*dataDir, *clientURL, *peerURL, *logLevel); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	return 0
}

func serveEtcd(dataDir, clientURL, peerURL, logLevel string) error {
	client, err := url.Parse(clientURL)
	if err != nil {
		return fmt.Errorf("parse -listen-client-url: %w", err)
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return fmt.Errorf("parse -listen-peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.LogLevel = logLevel
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)

	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer server.Close()

	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-interrupted:
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serve: %w", err)
	}
}
