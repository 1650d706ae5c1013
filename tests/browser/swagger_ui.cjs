// Tries the API out as a newcomer does in the Swagger UI, and tells on standard output what the page showed.
//
//   node swagger_ui.cjs URL TOKEN CALL_ID SCREENSHOT
const { launch } = require("./browser.cjs");

const [url, token, callId, screenshot] = process.argv.slice(2);

/** Opens an operation, fills its form (the gateway has "Try it out" pressed already), executes it, and gives the block with the answer. */
async function tryOut(page, operationId, fill) {
  const operation = page.locator(`#operations-analyses-${operationId}`);
  await operation.locator(".opblock-summary-control").click();
  await fill(operation);
  await operation.locator(".execute").click();
  const answer = operation.locator(".live-responses-table .response").first();
  await answer.waitFor();
  return answer;
}

async function main() {
  const browser = await launch();
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.setDefaultTimeout(60_000);
  try {
    const shown = await useTheApi(page);
    console.log(JSON.stringify({ ...shown, errors }));
  } finally {
    // Of the answer, or of what stood in its way.
    await page.screenshot({ path: screenshot });
    await browser.close();
  }
}

async function useTheApi(page) {
  await page.goto(url);

  await page.locator(".btn.authorize").first().click();
  await page.locator(".auth-container input").fill(token);
  await page.locator(".auth-container button.authorize").click();
  await page.locator(".auth-container .btn-done").click();

  const submitted = await tryOut(page, "submit_analysis", (operation) =>
    operation.locator("textarea.body-param__text").fill(JSON.stringify({ call_id: callId })),
  );
  const submitStatus = await submitted.locator(".response-col_status").innerText();

  const got = await tryOut(page, "get_analysis", async (operation) => {
    await operation.locator('tr[data-param-name="call_id"] input').fill(callId);
    await operation.locator('tr[data-param-name="Prefer"] input').fill("wait=60");
    // Examples are filled in; a made-up entity tag is none.
    await operation.locator('tr[data-param-name="If-None-Match"] input').fill("");
  });
  const getStatus = await got.locator(".response-col_status").innerText();
  const body = await got.locator(".response-col_description .highlight-code code").first().innerText();
  await got.scrollIntoViewIfNeeded();
  return { submit: submitStatus, get: getStatus, body };
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
