// A go-libp2p peer that looks for others on the local network, and dials whom it finds.
//
// It prints one JSON object a line: {"id", "addresses"} when it listens, {"found", "addresses"} for each peer that
// mDNS tells of, and {"connected"} or {"failed", "reason"} for the dial that follows. It ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

var (
	writing sync.Mutex
	out     = json.NewEncoder(os.Stdout)
)

func say(what map[string]any) {
	writing.Lock()
	defer writing.Unlock()
	if err := out.Encode(what); err != nil {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type finder struct{ host host.Host }

func (f finder) HandlePeerFound(found peer.AddrInfo) {
	say(map[string]any{"found": found.ID, "addresses": found.Addrs})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.host.Connect(ctx, found); err != nil {
		say(map[string]any{"failed": found.ID, "reason": err.Error()})
		return
	}
	say(map[string]any{"connected": found.ID})
}

func main() {
	node, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(),
	)
	if err != nil {
		fail(err)
	}
	say(map[string]any{"id": node.ID(), "addresses": node.Addrs()})
	if err := mdns.NewMdnsService(node, "", finder{node}).Start(); err != nil {
		fail(err)
	}
	io.Copy(io.Discard, os.Stdin)
}
