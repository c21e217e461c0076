// A go-libp2p peer in a private mesh: `psk FILE`, where FILE has its swarm key.
//
// It prints one JSON object a line: {"id", "addresses"} when it listens, and for each {"dial": multiaddr} on its standard
// input {"connected", "pinged", "echoed", "protocols"} or {"failed", "reason"}. It echoes what comes on /p2pboot/test/echo. It
// ends with its standard input.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const (
	echo   = "/p2pboot/test/echo"
	length = 3 << 20
)

var out = json.NewEncoder(os.Stdout)

func say(what map[string]any) {
	if err := out.Encode(what); err != nil {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func readKey(path string) pnet.PSK {
	file, err := os.Open(path)
	if err != nil {
		fail(err)
	}
	defer file.Close()
	key, err := pnet.DecodeV1PSK(file)
	if err != nil {
		fail(err)
	}
	return key
}

func answer(stream network.Stream) {
	if _, err := io.Copy(stream, stream); err != nil {
		stream.Reset()
		return
	}
	stream.Close()
}

// sendAndCompare has the peer echo some bytes.
func sendAndCompare(ctx context.Context, node host.Host, id peer.ID) error {
	stream, err := node.NewStream(ctx, id, echo)
	if err != nil {
		return err
	}
	defer stream.Close()
	sent, writing := make([]byte, length), make(chan error, 1)
	rand.Read(sent)
	go func() {
		_, err := stream.Write(sent)
		writing <- errors.Join(err, stream.CloseWrite())
	}()
	received, err := io.ReadAll(stream)
	if err = errors.Join(err, <-writing); err != nil {
		return err
	}
	if !bytes.Equal(sent, received) {
		return errors.New("what came back is something else")
	}
	return nil
}

func dial(node host.Host, address string) map[string]any {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	info, err := peer.AddrInfoFromString(address)
	if err == nil {
		err = node.Connect(ctx, *info)
	}
	if err == nil {
		err = (<-ping.Ping(ctx, node, info.ID)).Error
	}
	if err == nil {
		err = sendAndCompare(ctx, node, info.ID)
	}
	if err != nil {
		return map[string]any{"failed": address, "reason": err.Error()}
	}
	protocols, _ := node.Peerstore().GetProtocols(info.ID)
	return map[string]any{"connected": info.ID, "pinged": true, "echoed": length, "protocols": protocols}
}

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: psk FILE"))
	}
	node, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.PrivateNetwork(readKey(os.Args[1])),
		libp2p.DisableRelay(),
	)
	if err != nil {
		fail(err)
	}
	node.SetStreamHandler(echo, answer)
	say(map[string]any{"id": node.ID(), "addresses": node.Addrs()})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var told struct{ Dial string }
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			fail(err)
		}
		say(dial(node, told.Dial))
	}
}
