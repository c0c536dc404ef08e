// What the gateway knows of its stations' certificates.
import tls from 'node:tls'

const pem = (der) => `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/(.{64})/g, '$1\n').trimEnd()}\n-----END CERTIFICATE-----\n`

// Trust is the context of the gateway's own connections to its PKI: the
// operator's anchors, completed with the certificates that stations present.
export class Trust {
  #anchors
  #context
  #learned = new Set() // fingerprints; only of the mended version
  #mended

  constructor(anchors, mended) {
    this.#anchors = anchors.toString()
    this.#context = tls.createSecureContext({ ca: anchors })
    this.#mended = mended
  }

  // learn takes over the chain that a station has just presented, and the anchors
  // with it, should they have been lost.
  //
  // This is the leak. addCACert ignores a certificate that the store has
  // already, so calling it for every connection looks harmless; but it also
  // appends the certificate's name to OpenSSL's list of client CAs, every time.
  // That list belongs to one native object: V8 has nothing to count, neither in
  // its heap nor as external memory.
  learn(socket) {
    let chain = ''
    for (let c = socket.getPeerCertificate(true); c?.raw; c = c.issuerCertificate) {
      if (!this.#mended) {
        chain += pem(c.raw)
      } else if (!this.#learned.has(c.fingerprint256) && this.#learned.size < 10_000) {
        this.#learned.add(c.fingerprint256)
        chain += pem(c.raw)
      }
      if (c.issuerCertificate === c) break
    }
    if (chain) this.#context.context.addCACert(this.#anchors + chain)
  }
}
