// The first start of a new server: whoever has the token becomes the first admin.
import { PASSWORD, accessible, check, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await page.goto("/devices?selector=all");
  check(!page.url().includes("/login"), "a person at the server may look as long as there are no people");
  await page.goto("/login");
  await shown(page, "Nobody is known here yet.");
  await accessible(page);
  await page.getByLabel("Admin token").fill("cba_wrong");
  await page.getByLabel("Your name").fill("Ada");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Make me the first admin" }).click();
  await shown(page, "that is no API token");
  check((await page.getByLabel("Your name").inputValue()) === "Ada", "the name is kept");
  await page.getByLabel("Admin token").fill(process.env.TOKEN);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Make me the first admin" }).click();
  await shown(page, "Welcome, Ada. You are the first admin.");
  await shown(page, "There is no device yet");
  // By the keyboard alone: the first stop leads past the navigation.
  await page.reload();
  await page.keyboard.press("Tab");
  check((await page.evaluate(() => document.activeElement.textContent)) === "Skip to the content", "the skip link is first");
  await page.getByRole("button", { name: "Log out" }).click();
  await shown(page, "You have logged out.");
  await page.goto("/devices?selector=all");
  check(page.url().includes("/login"), "and has to log in from then on");
  await page.getByLabel("Name", { exact: true }).fill("ada");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(/\/devices\?selector=all/);
});
