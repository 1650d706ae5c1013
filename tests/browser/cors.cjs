// Calls the API from a page of another origin, and prints as JSON what the page could read.
//
//   node cors.cjs PAGE_PORT API TOKEN CALL_ID
const http = require("node:http");
const { launch } = require("./browser.cjs");

const [port, api, token, callId] = process.argv.slice(2);

/** In the page: what it gets to see of each answer. */
async function ask([api, token, callId]) {
  const see = async (path, options) => {
    try {
      let answer;
      do answer = await fetch(new URL(path, api), options);
      while (answer.status === 503); // The machine is slow.
      const seen = ["etag", "x-request-id", "www-authenticate", "location"].filter((name) => answer.headers.has(name));
      return { status: answer.status, seen, code: (await answer.json()).code };
    } catch (error) {
      return { error: error.name };
    }
  };
  const authorization = `Bearer ${token}`;
  const json = { authorization, "content-type": "application/json" };
  return {
    read: await see(`v1/analyses/${callId}`, { headers: { authorization, prefer: "wait=1" } }),
    submitted: await see("v1/analyses", { method: "POST", headers: json, body: JSON.stringify({ call_id: "of-a-page" }) }),
    refused: await see(`v1/analyses/${callId}`, { headers: { authorization: "Bearer x" } }),
  };
}

async function main() {
  const page = "<!doctype html><title>A CRM</title>";
  const server = http.createServer((_, response) => response.setHeader("content-type", "text/html").end(page));
  await new Promise((resolve) => server.listen(Number(port), "127.0.0.1", resolve));
  const browser = await launch();
  try {
    const results = [];
    // The same page under two host names. Only one of the origins is allowed.
    for (const host of ["127.0.0.1", "localhost"]) {
      const page = await browser.newPage();
      page.setDefaultTimeout(600_000);
      await page.goto(`http://${host}:${server.address().port}/`);
      results.push(await page.evaluate(ask, [api, token, callId]));
    }
    console.log(JSON.stringify(results));
  } finally {
    await browser.close();
    server.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
