// A viewer looks, finds nothing to press, and is refused what a role does not allow; an operator's session ends while a
// form is filled in.
import { accessible, check, logIn, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await logIn(page, "viewer");
  await page.goto("/devices/pos-nyc-001");
  await shown(page, "Why?");
  check((await page.getByText("Decommission…").count()) === 0, "a viewer is offered to decommission");
  const refused = await page.evaluate(async () => {
    const csrf = document.querySelector("input[name=csrf]").value;
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: "/devices/pos-nyc-001/hold" });
    for (const [name, value] of Object.entries({ csrf, reason: "a test" })) {
      form.append(Object.assign(document.createElement("input"), { name, value }));
    }
    document.body.append(form);
    form.submit();
  });
  check(refused === undefined, "nothing is answered to a script");
  await shown(page, "this takes the permission operate, which operator or admin gives; viewer is viewer");
  await accessible(page);

  const other = await open();
  await logIn(other, "operator");
  await other.goto("/devices/pos-nyc-001");
  await other.locator("summary", { hasText: "Hold…" }).click();
  await other.locator("#hold-reason").fill("a \"spare\" part");
  await other.context().clearCookies();
  await other.getByRole("button", { name: "Hold pos-nyc-001" }).click();
  await shown(other, "What you typed is kept");
  await accessible(other);
  await other.getByLabel("Name", { exact: true }).fill("operator");
  await other.getByLabel("Password").fill("correct horse battery");
  await other.getByRole("button", { name: "Log in" }).click();
  await shown(other, "a \"spare\" part");
  await other.getByRole("button", { name: "Send it" }).click();
  await shown(other, "pos-nyc-001 is held.");
});
