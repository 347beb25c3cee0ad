// An OpenID Connect provider on a free port of this machine, with people who are believed whatever they say they are.
// Usage: node provider.js REDIRECT_URI. It says its issuer on the first line of its output.

import { createServer } from "node:http";
import Provider from "oidc-provider";

const groups = { ada: ["till-operators", "everybody"], bob: ["gardeners"], eve: ["everybody"] };
const [redirect] = process.argv.slice(2);
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "callboard", client_secret: "not guessed", redirect_uris: [redirect] }],
    claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
    conformIdTokenClaims: process.env.CLAIMS !== "in-token",
    cookies: { keys: ["of this test"] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: `subject of ${id}`, preferred_username: id, groups: groups[id] }),
    }),
    interactions: { url: (_, interaction) => `/log-in/${interaction.uid}` },
    pkce: { required: () => true },
    ttl: { Interaction: 600, Session: 600, Grant: 600, AccessToken: 600, IdToken: 600 },
  });
  const callback = provider.callback();
  server.on("request", async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, issuer);
    if (!pathname.startsWith("/log-in/")) return callback(request, response);
    const accountId = searchParams.get("as");
    if (!accountId) return response.end(`<a id="ada" href="${pathname}?as=ada">Log in as ada</a>`);
    const grant = new provider.Grant({ accountId, clientId: "callboard" });
    grant.addOIDCScope("openid profile");
    const result = { login: { accountId }, consent: { grantId: await grant.save() } };
    await provider.interactionFinished(request, response, result);
  });
  console.log(issuer);
});
