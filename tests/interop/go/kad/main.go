// A go-libp2p peer with go-libp2p-kad-dht as it comes, except that it takes private addresses and values under /phase/.
//
// It prints one JSON object a line: {"id", "addresses"} when it listens, then one for each command, which are JSON objects
// on a line of its standard input: {"op": "dial", "address"}, {"op": "put" | "get", "key", "value"}, {"op": "provide" |
// "find", "cid"}. It ends with its standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// anything takes any value, and of several the first.
type anything struct{}

func (anything) Validate(string, []byte) error        { return nil }
func (anything) Select(string, [][]byte) (int, error) { return 0, nil }

type command struct{ Op, Address, Key, Value, Cid string }

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	node, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(),
	)
	if err != nil {
		fail(err)
	}
	table, err := dht.New(context.Background(), node,
		dht.ProtocolPrefix("/p2pboot"), // /ipfs takes no further namespaces
		dht.V1ProtocolOverride("/ipfs/kad/1.0.0"),
		dht.NamespacedValidator("phase", anything{}),
		dht.Mode(dht.ModeServer),
		dht.AddressFilter(nil),
	)
	if err != nil {
		fail(err)
	}
	out := json.NewEncoder(os.Stdout)
	out.Encode(map[string]any{"id": node.ID(), "addresses": node.Addrs()})
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var told command
		if err := json.Unmarshal(in.Bytes(), &told); err != nil {
			fail(err)
		}
		found, err := do(table, told)
		answer := map[string]any{"done": told.Op, "found": found}
		if err != nil {
			answer["error"] = err.Error()
		}
		out.Encode(answer)
	}
}

func do(table *dht.IpfsDHT, told command) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	switch told.Op {
	case "dial":
		info, err := peer.AddrInfoFromString(told.Address)
		if err != nil {
			return nil, err
		}
		if err := table.Host().Connect(ctx, *info); err != nil {
			return nil, err
		}
		for table.RoutingTable().Find(info.ID) == "" { // it has said that it is a server
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
		return nil, nil
	case "put":
		return nil, table.PutValue(ctx, told.Key, []byte(told.Value))
	case "get":
		value, err := table.GetValue(ctx, told.Key)
		return string(value), err
	}
	content, err := cid.Decode(told.Cid)
	if err != nil {
		return nil, err
	}
	if told.Op == "provide" {
		return nil, table.Provide(ctx, content, true)
	}
	providers := []peer.ID{}
	for info := range table.FindProvidersAsync(ctx, content, 1) {
		providers = append(providers, info.ID)
	}
	return providers, nil
}
