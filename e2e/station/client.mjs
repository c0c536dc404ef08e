// A charging station made of the npm package ocpp-rpc, driven over stdin and
// stdout with one JSON object per line.
//
//   first line in:  {endpoint, identity, password, protocol, strict, ca, cert, key, answers}
//   then:           {id, action, params}             → {id, result} or {id, error}
//                   {id, close: true}                → {id, result: {}}
//   unasked out:    {open: protocol} {call, params} {closed: code} {bad: text}
import { createInterface } from 'node:readline';
import { RPCClient } from 'ocpp-rpc';

const out = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value);

const client = new RPCClient({
  endpoint: setup.endpoint,
  identity: setup.identity,
  password: setup.password,
  protocols: [setup.protocol],
  strictMode: setup.strict,
  reconnect: false,
  callTimeoutMs: 20000,
  wsOpts: { ca: setup.ca, cert: setup.cert, key: setup.key },
});
client.on('close', ({ code }) => out({ closed: code }));
client.on('strictValidationFailure', ({ error }) => out({ bad: String(error) + ' ' + JSON.stringify(error.details ?? {}) }));
client.on('badMessage', ({ error }) => out({ bad: String(error) }));
client.handle(({ method, params }) => {
  out({ call: method, params });
  const answer = setup.answers[method];
  if (answer === undefined) throw new Error('no answer for ' + method);
  return answer;
});
try {
  await client.connect();
} catch (error) {
  out({ refused: error.code ?? 0, message: String(error) });
  process.exit(0);
}
out({ open: client.protocol });

for (let line = await lines.next(); !line.done; line = await lines.next()) {
  const { id, action, params, close } = JSON.parse(line.value);
  if (close) {
    await client.close();
    out({ id, result: {} });
    continue;
  }
  client.call(action, params).then(
    (result) => out({ id, result }),
    (error) => out({ id, error: { code: error.rpcErrorCode ?? '', message: String(error) } }),
  );
}
await client.close();
