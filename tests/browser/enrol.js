// An operator makes a token, a till uses it, and appears on the page by itself.
import { accessible, check, logIn, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await logIn(page, "operator");
  await page.goto("/enrolment");
  await page.locator("summary", { hasText: "Make a token" }).click();
  await page.getByLabel("Site").fill("NOWHERE");
  await page.getByLabel("Labels").fill("lane=4");
  await page.getByRole("button", { name: "Make a token" }).click();
  await shown(page, "there is no site NOWHERE");
  check((await page.getByLabel("Labels").inputValue()).trim() === "lane=4", "the labels are kept");
  await accessible(page);
  await page.getByLabel("Site").fill("NYC-001");
  await page.getByRole("button", { name: "Make a token" }).click();
  await shown(page, "This is shown once.");
  const command = await page.locator("#command").textContent();
  check(command.includes("install-agent.sh --bundle"), command);
  await accessible(page);
  const token = await page.locator("#token").textContent();
  await page.goto("/devices?selector=lane%20%3D%204");
  await shown(page, "No device is like this.");
  // The page does not change by a reload, but by what the server tells.
  await page.evaluate(() => { globalThis.still = true; });
  console.log(token);
  await page.getByRole("link", { name: "till-by-page" }).waitFor();
  check(await page.evaluate(() => globalThis.still), "the page was loaded again");
  await page.getByRole("link", { name: "till-by-page" }).click();
  await shown(page, "No rollout is open that could be for it.");
  await page.goto("/enrolment");
  await shown(page, "1 of 1");
});
