// An OCPP server made of the npm package ocpp-rpc, whose strict mode checks every
// CALL of the stations and every answer against its own schemas.
//
//   first line in:   {cert, key, ca, mutual, passwords}   (ca: of the stations)
//   first line out:  {port}
//   end of input:    {identities, calls, started, ended, bad, refused}, then it ends
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { RPCServer } from 'ocpp-rpc';

const out = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value);

const seen = { identities: new Set(), calls: {}, started: new Set(), ended: new Set(), bad: [], refused: 0 };
const bad = (text) => { if (seen.bad.length < 20) seen.bad.push(text); };

const server = new RPCServer({ protocols: ['ocpp2.0.1', 'ocpp1.6'], strictMode: true, callTimeoutMs: 20000 });
server.auth((accept, reject, handshake) => {
  const name = setup.mutual ? handshake.request.socket.getPeerCertificate()?.subject?.CN : undefined;
  const known = setup.mutual ? name === handshake.identity : handshake.password?.toString() === 'secret-' + handshake.identity;
  if (!known) {
    seen.refused++;
    return reject(401, 'not known');
  }
  accept();
});
server.on('client', (client) => {
  seen.identities.add(client.identity);
  client.on('strictValidationFailure', ({ error }) => bad(String(error) + ' ' + JSON.stringify(error.details ?? {})));
  client.on('badMessage', ({ error }) => bad(String(error)));
  client.handle(({ method, params }) => {
    seen.calls[method] = (seen.calls[method] ?? 0) + 1;
    const answer = answers[client.protocol][method];
    if (!answer) throw new Error('no answer for ' + method);
    return answer(params, client);
  });
});

let lastId = 0;
const starts = new Map(); // a start that comes again is the same transaction
const boot = () => ({ status: 'Accepted', currentTime: new Date().toISOString(), interval: 300 });
const none = () => ({});
const answers = {
  'ocpp1.6': {
    BootNotification: boot,
    Heartbeat: () => ({ currentTime: new Date().toISOString() }),
    Authorize: () => ({ idTagInfo: { status: 'Accepted' } }),
    StatusNotification: none,
    MeterValues: none,
    StartTransaction: (p, client) => {
      const key = [client.identity, p.connectorId, p.timestamp].join();
      if (!starts.has(key)) starts.set(key, ++lastId);
      seen.started.add(client.identity + '/' + starts.get(key));
      return { transactionId: starts.get(key), idTagInfo: { status: 'Accepted' } };
    },
    StopTransaction: (p, client) => {
      seen.ended.add(client.identity + '/' + p.transactionId);
      return {};
    },
    SecurityEventNotification: none,
  },
  'ocpp2.0.1': {
    BootNotification: boot,
    Heartbeat: () => ({ currentTime: new Date().toISOString() }),
    Authorize: () => ({ idTokenInfo: { status: 'Accepted' } }),
    StatusNotification: none,
    MeterValues: none,
    NotifyEvent: none,
    SecurityEventNotification: none,
    TransactionEvent: (p, client) => {
      if (p.eventType === 'Started') seen.started.add(client.identity + '/' + p.transactionInfo.transactionId);
      if (p.eventType === 'Ended') seen.ended.add(client.identity + '/' + p.transactionInfo.transactionId);
      return {};
    },
  },
};

const https = createServer({ cert: setup.cert, key: setup.key, ca: setup.ca, requestCert: setup.mutual, rejectUnauthorized: setup.mutual });
https.on('upgrade', server.handleUpgrade);
https.listen(0, '127.0.0.1', () => out({ port: https.address().port }));
await lines.next();
out({ ...seen, identities: seen.identities.size, started: seen.started.size, ended: seen.ended.size });
process.exit(0);
