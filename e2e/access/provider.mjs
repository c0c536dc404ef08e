// An OpenID Connect provider with its own login pages: whoever logs in as NAME
// has the groups of NAME. Prints its issuer when it listens.
import { Provider } from 'oidc-provider';
import { createServer } from 'node:http';

const groups = { olga: ['platform'], nils: ['noc', 'everybody'], gast: ['everybody'] };
const server = createServer((req, res) => handle(req, res));
let handle;
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'holdfast', token_endpoint_auth_method: 'none', response_types: [], redirect_uris: [],
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    }],
    claims: { openid: ['sub', 'groups', 'preferred_username'] },
    conformIdTokenClaims: false,
    features: { deviceFlow: { enabled: true } },
    ttl: { IdToken: Number(process.env.ID_TOKEN_SECONDS ?? 3600) },
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub, preferred_username: sub, groups: groups[sub] ?? [] }) }),
  });
  handle = provider.callback();
  console.log(issuer);
});
