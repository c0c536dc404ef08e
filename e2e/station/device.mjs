// A charging station that keeps its credentials: npm ocpp-rpc speaks OCPP and
// checks each message by its own schemas, OpenSSL makes keys, requests and chains.
// It follows the security white paper of 1.6, and A01 to A05 of 2.x.
//
//   first line in:  {identity, serial, protocol, strict, urls, profile, password, dir, roots, limit, hold}
//   then:           {go: point}                      it stood still there since {held: point}
//                   {id, action, params}             → {id, result} or {id, error}
//   unasked out:    {open: protocol, profile, serial} {call} {held} {closed: code} {refused: code} {bad: text}
//
// Points to hold at: "request" before SignCertificate, "certificate", "profile" and
// "password" before it connects with the new one.
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { RPCClient } from 'ocpp-rpc';

const out = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value);
const v16 = setup.protocol === 'ocpp1.6';
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const file = (name) => join(setup.dir, name);
const openssl = (...args) => execFileSync('openssl', args, { cwd: setup.dir, stdio: ['ignore', 'pipe', 'ignore'] }).toString();

// What the station keeps. A new credential becomes its own when it has connected with it.
const own = { profile: setup.profile, password: setup.password, roots: setup.roots ?? [], organization: 'Maker', slots: { 0: setup.profile }, priority: [0] };
const next = {}; // of profile, password, certificate: to be tried at the next connection
let client, ended = false;
let asked = 0; // requests for a certificate, made so far

const going = new Map();
async function hold(point) {
  if (!setup.hold?.includes(point)) return;
  out({ held: point });
  await new Promise((go) => going.set(point, go));
}

// hashOf is a root as GetInstalledCertificateIds names it.
function hashOf(pem) {
  writeFileSync(file('hash.pem'), pem);
  const text = openssl('ocsp', '-sha256', '-issuer', 'hash.pem', '-cert', 'hash.pem', '-reqout', 'hash.der', '-req_text');
  const field = (name) => text.match(new RegExp(name + ': ([0-9A-F]+)'))[1].toLowerCase();
  return { hashAlgorithm: 'SHA256', issuerNameHash: field('Issuer Name Hash'), issuerKeyHash: field('Issuer Key Hash'), serialNumber: field('Serial Number') };
}

function install({ certificateType, certificate }) {
  if (certificateType !== (v16 ? 'CentralSystemRootCertificate' : 'CSMSRootCertificate')) return 'Rejected';
  const c = new X509Certificate(certificate);
  if (!c.ca || !c.verify(c.publicKey)) return 'Rejected';
  if (!own.roots.includes(certificate)) own.roots.push(certificate);
  return 'Accepted';
}

// sendRequest makes a key and asks for its certificate.
async function sendRequest() {
  const n = ++asked;
  openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-keyout', `${n}.key`, '-out', `${n}.csr`,
    '-subj', `/O=${own.organization}/CN=${setup.serial}`);
  await hold('request');
  const params = { csr: readFileSync(file(`${n}.csr`)).toString() };
  if (!v16) params.certificateType = 'ChargingStationCertificate';
  const { status } = await client.call('SignCertificate', params);
  if (status !== 'Accepted') out({ bad: 'SignCertificate is answered ' + status });
}

// takeCertificate checks a chain as a station has to: its own key, its own name, a root that it trusts.
function takeCertificate(chain) {
  if (asked === 0) return 'Rejected';
  const leaf = new X509Certificate(chain);
  const key = readFileSync(file(`${asked}.key`));
  writeFileSync(file('chain.pem'), chain);
  writeFileSync(file('roots.pem'), own.roots.join('\n'));
  if (openssl('pkey', '-in', `${asked}.key`, '-pubout') !== openssl('x509', '-in', 'chain.pem', '-noout', '-pubkey')) return 'Rejected';
  if (!leaf.subject.split('\n').includes('CN=' + setup.serial)) return 'Rejected';
  if (chain.length > setup.limit) {
    out({ bad: `a chain of ${chain.length} characters` });
    return 'Rejected';
  }
  // A leaf alone cannot be verified; the station has to believe its server.
  if (chain.split('BEGIN CERTIFICATE').length > 2) openssl('verify', '-CAfile', 'roots.pem', '-untrusted', 'chain.pem', 'chain.pem'); // throws
  next.certificate = { cert: chain, key, serial: leaf.serialNumber.toLowerCase() };
  return 'Accepted';
}

// come drops the connection after the answer left, to come back with what is new.
const come = () => setTimeout(() => client.close({ code: 1000 }), 200);

function higher(profile) {
  if (profile <= own.profile || own.roots.length === 0) return false;
  return profile < 3 || (own.certificate ?? next.certificate) !== undefined;
}

const settings16 = {
  CpoName: { get: () => own.organization, set: (v) => { own.organization = v; } },
  CertificateSignedMaxChainSize: { get: () => String(setup.limit) },
  SecurityProfile: { get: () => String(own.profile), set: (v) => higher(+v) && (next.profile = +v, come(), true) },
  AuthorizationKey: { set: (v) => /^([0-9a-fA-F]{2}){16,20}$/.test(v) && (next.password = Buffer.from(v, 'hex'), come(), true) },
};
const settings2x = {
  'SecurityCtrlr.OrganizationName': settings16.CpoName,
  'SecurityCtrlr.MaxCertificateChainSize': settings16.CertificateSignedMaxChainSize,
  'SecurityCtrlr.SecurityProfile': { get: settings16.SecurityProfile.get },
  'SecurityCtrlr.BasicAuthPassword': { set: (v) => v.length >= 16 && v.length <= 40 && (next.password = v, come(), true) },
  'OCPPCommCtrlr.NetworkConfigurationPriority': {
    get: () => own.priority.join(','),
    set: (v) => v.split(',').every((s) => own.slots[s] >= own.profile) && (own.priority = v.split(',').map(Number), true),
  },
};
const variable = (d) => settings2x[`${d.component.name}.${d.variable.name}`];

const handlers = {
  GetConfiguration: ({ key }) => ({
    configurationKey: key.filter((k) => settings16[k]?.get).map((k) => ({ key: k, readonly: !settings16[k].set, value: settings16[k].get() })),
    unknownKey: key.filter((k) => !settings16[k]?.get),
  }),
  ChangeConfiguration: ({ key, value }) => {
    const s = settings16[key];
    if (!s) return { status: 'NotSupported' };
    return { status: s.set && s.set(value) !== false ? 'Accepted' : 'Rejected' };
  },
  GetVariables: ({ getVariableData }) => ({
    getVariableResult: getVariableData.map(({ component, variable: v }) => {
      const s = variable({ component, variable: v });
      return s?.get ? { attributeStatus: 'Accepted', attributeValue: s.get(), component, variable: v } : { attributeStatus: s ? 'Rejected' : 'UnknownVariable', component, variable: v };
    }),
  }),
  SetVariables: ({ setVariableData }) => ({
    setVariableResult: setVariableData.map(({ component, variable: v, attributeValue }) => {
      const s = variable({ component, variable: v });
      const attributeStatus = !s ? 'UnknownVariable' : s.set && s.set(attributeValue) !== false ? 'Accepted' : 'Rejected';
      return { attributeStatus, component, variable: v };
    }),
  }),
  SetNetworkProfile: ({ configurationSlot, connectionData }) => {
    const { securityProfile, ocppCsmsUrl } = connectionData;
    if (own.priority.includes(configurationSlot) || !higher(securityProfile) || ocppCsmsUrl !== setup.urls[securityProfile]) return { status: 'Rejected' };
    own.slots[configurationSlot] = securityProfile;
    return { status: 'Accepted' };
  },
  Reset: () => {
    if (!v16 && own.slots[own.priority[0]] !== own.profile) next.profile = own.slots[own.priority[0]];
    come();
    return { status: 'Accepted' };
  },
  GetInstalledCertificateIds: () => {
    const hashes = own.roots.map(hashOf);
    if (hashes.length === 0) return { status: 'NotFound' };
    if (v16) return { status: 'Accepted', certificateHashData: hashes };
    return { status: 'Accepted', certificateHashDataChain: hashes.map((h) => ({ certificateType: 'CSMSRootCertificate', certificateHashData: h })) };
  },
  InstallCertificate: (params) => ({ status: install(params) }),
  ExtendedTriggerMessage: ({ requestedMessage }) => trigger(requestedMessage === 'SignChargePointCertificate'),
  TriggerMessage: ({ requestedMessage }) => trigger(requestedMessage === 'SignChargingStationCertificate'),
  CertificateSigned: ({ certificateChain }) => {
    const status = takeCertificate(certificateChain);
    if (status === 'Accepted' && own.profile === 3) come();
    return { status };
  },
};

function trigger(ok) {
  if (!ok) return { status: 'NotImplemented' };
  setTimeout(() => sendRequest().catch((error) => out({ bad: String(error) })), 100);
  return { status: 'Accepted' };
}

// connect tries once and returns when the connection is over; false if there was none.
async function connect(tried) {
  const c = tried.certificate ?? own.certificate, profile = tried.profile ?? own.profile, password = tried.password ?? own.password;
  client = new RPCClient({
    endpoint: setup.urls[profile], identity: setup.identity, protocols: [setup.protocol], strictMode: setup.strict, reconnect: false, callTimeoutMs: 60000,
    password: profile === 3 ? undefined : password,
    wsOpts: { ca: own.roots.length ? own.roots : undefined, ...(profile === 3 ? { cert: c.cert, key: c.key } : {}) },
  });
  client.on('strictValidationFailure', ({ error }) => out({ bad: String(error) + ' ' + JSON.stringify(error.details ?? {}) }));
  client.on('badMessage', ({ error }) => out({ bad: String(error) }));
  for (const [action, answer] of Object.entries(handlers)) {
    client.handle(action, ({ params }) => { out({ call: action }); return answer(params); });
  }
  const closed = new Promise((done) => client.once('close', done));
  try {
    await client.connect();
  } catch (error) {
    out({ refused: error.code ?? 0, message: String(error) });
    return false;
  }
  Object.assign(own, tried);
  for (const [what, value] of Object.entries(tried)) if (next[what] === value) delete next[what];
  if (profile > 1) { // lower ones are no way back any more (A05)
    for (const [slot, p] of Object.entries(own.slots)) if (p < profile) { delete own.slots[slot]; own.priority = own.priority.filter((s) => s !== +slot); }
  }
  out({ open: client.protocol, profile, serial: profile === 3 ? c.serial : '' });
  client.call('BootNotification', v16 ? { chargePointVendor: 'ACME', chargePointModel: 'Two' } : { reason: 'PowerUp', chargingStation: { vendorName: 'ACME', model: 'Two' } })
    .catch((error) => { if (!ended) out({ bad: 'BootNotification: ' + error }); });
  out({ closed: (await closed).code });
  return true;
}

// live connects for as long as the station runs: with what is new, and after many
// tries in vain with what it had.
async function live() {
  for (let vain = 0; !ended; ) {
    const tried = vain < 60 ? { ...next } : {};
    for (const point of Object.keys(tried)) if (vain === 0) await hold(point);
    if (ended) return;
    vain = await connect(tried) ? 0 : vain + 1;
    await pause(vain ? 1000 : 200);
  }
}

const life = live();
for (let line = await lines.next(); !line.done; line = await lines.next()) {
  const { go, id, action, params } = JSON.parse(line.value);
  if (go) going.get(go)();
  else client.call(action, params).then((result) => out({ id, result }), (error) => out({ id, error: { code: error.rpcErrorCode ?? '', message: String(error) } }));
}
ended = true;
await client?.close();
process.exit(0);
