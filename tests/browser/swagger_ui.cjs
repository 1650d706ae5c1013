// Uses the API in Swagger UI as a newcomer does, and prints what the page showed as JSON.
//
//   node swagger_ui.cjs URL TOKEN CALL_ID OTHER_CALL_ID SCREENSHOT
const { launch } = require("./browser.cjs");

const [url, token, callId, otherCallId, screenshot] = process.argv.slice(2);

/** Opens an operation and returns its block. "Try it out" is already active. */
async function open(page, operationId) {
  const operation = page.locator(`#operations-analyses-${operationId}`);
  await operation.locator(".opblock-summary-control").click();
  await operation.locator(".execute").waitFor();
  return operation;
}

/** Executes the form of an operation and returns the block with the answer. */
async function execute(page, operation, path) {
  const answered = page.waitForResponse((response) => new URL(response.url()).pathname === path);
  await operation.locator(".execute").click();
  const status = String((await answered).status());
  const answer = operation.locator(".live-responses-table .response").first();
  await answer.locator(".response-col_status", { hasText: status }).waitFor();
  return answer;
}

/** Submits a call with the form as the page prefilled it, except for the body, and returns the status of the answer. */
async function submit(page, operation, id) {
  await operation.locator("textarea.body-param__text").fill(JSON.stringify({ call_id: id }));
  const answer = await execute(page, operation, "/v1/analyses");
  return answer.locator(".response-col_status").innerText();
}

async function main() {
  const browser = await launch();
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.setDefaultTimeout(600_000);
  try {
    const shown = await useTheApi(page);
    console.log(JSON.stringify({ ...shown, errors }));
  } finally {
    // Shows the last response or the failure.
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

  const submitAnalysis = await open(page, "submit_analysis");
  const { height } = await submitAnalysis.boundingBox();
  const key = await submitAnalysis.locator('tr[data-param-name="Idempotency-Key"] input').inputValue();
  const submits = [await submit(page, submitAnalysis, callId), await submit(page, submitAnalysis, otherCallId)];
  const problem = submitAnalysis.locator('.responses-table:not(.live-responses-table) tr[data-code="422"]');
  await problem.getByRole("button").first().click();
  await problem.locator(".highlight-code").waitFor();

  const getAnalysis = await open(page, "get_analysis");
  await getAnalysis.locator('tr[data-param-name="call_id"] input').fill(callId);
  await getAnalysis.locator('tr[data-param-name="Prefer"] input').fill("wait=60");
  const got = await execute(page, getAnalysis, `/v1/analyses/${callId}`);
  const getStatus = await got.locator(".response-col_status").innerText();
  const body = await got.locator(".response-col_description .highlight-code code").first().innerText();
  await got.scrollIntoViewIfNeeded();
  const viewport = await page.locator('meta[name="viewport"]').getAttribute("content");
  return { title: await page.title(), viewport, height, key, submits, get: getStatus, body };
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
