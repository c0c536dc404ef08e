// A server whose memory is read from outside. It prints its port, and serves
// /metrics by prom-client if that is installed; /grow?kind=K&mb=N keeps N MB of
// a kind: heap (JavaScript objects), external (Buffers), native (memory that
// V8 does not know: secret keys in OpenSSL).
const http = require('http');
const crypto = require('crypto');

let metrics = null;
try {
	metrics = require('prom-client');
	metrics.collectDefaultMetrics({ prefix: process.env.METRICS_PREFIX || '' });
} catch { /* the test does not need it */ }

const kept = [];
const grow = {
	heap: mb => { for (let i = 0; i < mb * 1024; i++) kept.push(Array.from({ length: 125 }, (_, k) => k + 0.5)); },
	external: mb => { for (let i = 0; i < mb; i++) kept.push(Buffer.alloc(1 << 20, 1)); },
	native: mb => {
		const secret = Buffer.alloc(1 << 20, 1);
		for (let i = 0; i < mb; i++) kept.push(crypto.createSecretKey(secret));
	},
};

const server = http.createServer(async (req, res) => {
	const url = new URL(req.url, 'http://localhost');
	if (url.pathname === '/metrics' && metrics) {
		res.setHeader('Content-Type', metrics.register.contentType);
		res.end(await metrics.register.metrics());
	} else if (url.pathname === '/grow') {
		grow[url.searchParams.get('kind')](Number(url.searchParams.get('mb')));
		res.end('ok\n');
	} else {
		res.statusCode = 404;
		res.end();
	}
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume(); // the test is gone
