// Somebody uploads a release with its payload, and starts it by each policy; what it would do is shown while one types.
import { accessible, check, logIn, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await logIn(page, "admin");
  await page.goto("/releases/new");
  await page.getByLabel("release.json").setInputFiles(process.env.RELEASE);
  await page.getByRole("button", { name: "Upload" }).click();
  await shown(page, "choose the file");
  await page.getByLabel("Payloads").setInputFiles(process.env.PAYLOAD);
  await page.getByRole("button", { name: "Upload" }).click();
  await page.getByRole("heading", { name: "pos-app 3.0.0" }).waitFor();
  await shown(page, "1 of 1 key signed");
  await page.getByRole("link", { name: "Roll it out" }).click();

  const form = async (name, policy) => {
    await page.goto("/rollouts/new?release=pos-app@3.0.0");
    await page.getByLabel("Name", { exact: true }).first().fill(name);
    await page.getByRole("radio", { name: policy }).check();
  };
  await form("now", "Immediate");
  check(!(await page.getByText("Phase 1").isVisible()), "an immediate rollout is asked for phases");
  await page.locator("#preview").getByText("10 devices").waitFor();
  await accessible(page);
  await page.getByRole("button", { name: "Make and start it" }).click();
  await shown(page, "It has started.");

  await form("later", "Scheduled");
  await page.getByLabel("Not before (UTC)").fill("2027-02-01T02:00");
  await page.getByText("times at which it may install").click();
  await page.locator("[name='windows[0].start']").fill("02:00");
  await page.locator("[name='windows[0].duration_min']").fill("120");
  await page.locator("#preview").getByText("First window by zone").waitFor();
  await page.locator("#preview").getByText("America/New_York").first().waitFor();
  await page.getByRole("button", { name: "Make and start it" }).click();
  await shown(page, "It has started.");

  await form("slowly", "Progressive");
  await page.locator("#preview").getByText("canary").first().waitFor();
  await page.locator("[name='phases[1].percent']").fill("5");
  await page.getByRole("button", { name: "Make and start it" }).click();
  await page.locator(".field.wrong [name='phases[1].percent']").waitFor();
  check((await page.getByLabel("Name", { exact: true }).first().inputValue()) === "slowly", "what was typed is gone");
  await page.locator("[name='phases[1].percent']").fill("100");
  await page.getByRole("button", { name: "Make it as a draft" }).click();
  await page.getByRole("link", { name: "Preview and start…" }).click();
  await page.getByRole("button", { name: "Start for 10 devices" }).click();
  await shown(page, "It has started.");

  // By a file; what is wrong in it is told with its place.
  await page.goto("/rollouts/new?as=file");
  const file = page.getByLabel("The rollout as a file (TOML)");
  await file.fill('name = "when-they-come"\nrelease = "pos-app@3.0.0"\npolicy = "on_conect"\n');
  await page.getByRole("button", { name: "Make and start it" }).click();
  await shown(page, "line 3, column 10: unknown variant `on_conect`");
  await file.fill('name = "when-they-come"\nrelease = "pos-app@3.0.0"\npolicy = "on_connect"\n');
  await page.getByRole("button", { name: "Make and start it" }).click();
  await shown(page, "It has started.");
});
