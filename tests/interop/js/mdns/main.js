// A js-libp2p peer that looks for others on the local network, and dials whom it finds.
//
// It prints {"id", "addresses"} when it listens, {"found", "addresses"} for each peer that mDNS tells of, and
// {"connected"} or {"failed", "reason"} for the dial that follows.

import { mdns } from '@libp2p/mdns'
import { open, say } from '../shared.js'

const node = await open({ peerDiscovery: [mdns()] })

node.addEventListener('peer:discovery', async ({ detail }) => {
  say({ found: detail.id.toString(), addresses: detail.multiaddrs.map(String) })
  try {
    await node.dial(detail.multiaddrs, { signal: AbortSignal.timeout(10_000) })
    say({ connected: detail.id.toString() })
  } catch (error) {
    say({ failed: detail.id.toString(), reason: error.message })
  }
})
