// Uploads a release piece by piece, with a bar for each file. What has come to the server stays there, so that it goes on
// where it broke off, by itself and when the same files are chosen again. Without scripts the browser sends the form.

const PIECE = 8 * 1024 * 1024;
const PAUSES_MS = [1_000, 2_000, 5_000, 10_000, 20_000, 30_000];

const released = async (file) => {
  const envelope = JSON.parse(await file.text());
  const bytes = Uint8Array.from(atob(envelope.payload), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
};

const refused = async (answer) => {
  const problem = await answer.json().catch(() => ({}));
  return Object.assign(new Error(problem.detail ?? `the server answered ${answer.status}`), { final: true });
};

// One piece. XMLHttpRequest, because fetch tells nothing of what was sent.
const put = (path, token, body, moved) => new Promise((done, failed) => {
  const request = new XMLHttpRequest();
  request.open("PUT", path);
  request.setRequestHeader("x-csrf-token", token);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.onprogress = (event) => moved(event.loaded);
  request.onerror = () => failed(new Error("the line broke off"));
  request.onload = () => {
    const answer = (() => { try { return JSON.parse(request.responseText); } catch { return {}; } })();
    if (request.status === 200) return done(answer.received);
    const passing = request.status === 409 || request.status === 429 || request.status >= 502;
    failed(Object.assign(new Error(answer.detail ?? `the server answered ${request.status}`), { final: !passing }));
  };
  request.send(body);
});

const send = async (payload, file, token, show) => {
  const path = `/api/v1/payloads/${payload.sha256}/upload`;
  for (let tries = 0; ; ) {
    try {
      const answer = await fetch(path);
      if (!answer.ok) throw await refused(answer);
      let { received } = await answer.json();
      do {
        const piece = file.slice(received, received + PIECE);
        const from = received;
        received = await put(`${path}?from=${from}&size=${file.size}`, token, piece, (n) => show(from + n, ""));
        tries = 0;
      } while (received < file.size);
      return show(file.size, "there");
    } catch (error) {
      if (error.final || tries >= 100) throw error;
      const pause = PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)];
      tries += 1;
      show(null, `${error.message}; goes on in ${pause / 1000} s`);
      await new Promise((on) => setTimeout(on, pause));
    }
  }
};

const line = (list, name, size) => {
  const row = document.createElement("p");
  const bar = Object.assign(document.createElement("progress"), { max: size, value: 0 });
  const text = document.createElement("small");
  bar.setAttribute("aria-label", name);
  row.append(`${name} `, text, bar);
  list.append(row);
  return (value, words) => {
    if (value !== null) bar.value = value;
    text.textContent = words || `${Math.floor((bar.value * 100) / Math.max(size, 1))} %`;
  };
};

const upload = async (form) => {
  const token = form.dataset.csrf;
  const list = form.querySelector(".uploads");
  list.replaceChildren();
  const document_ = form.elements.release.files[0];
  const release = await released(document_);
  const files = [...form.elements.payload.files];
  for (const payload of release.payloads) {
    const show = line(list, payload.name, payload.size);
    const known = await fetch(`/api/v1/payloads/${payload.sha256}/info`);
    if (known.ok) {
      show(payload.size, "is there already");
      continue;
    }
    const file = files.find((one) => one.name === payload.sha256 || one.name === payload.name);
    if (!file) throw new Error(`choose the file ${payload.sha256} too (${payload.name})`);
    if (file.size !== payload.size) throw new Error(`${file.name} has ${file.size} bytes, the release says ${payload.size}`);
    await send(payload, file, token, show);
  }
  const answer = await fetch("/api/v1/releases", {
    method: "POST", body: await document_.text(),
    headers: { "x-csrf-token": token, "content-type": "application/json" },
  });
  if (!answer.ok) throw await refused(answer);
  location.assign(`/releases/${(await answer.json()).sha256}`);
};

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-upload]");
  if (!form) return;
  event.preventDefault();
  const button = form.querySelector("button.primary");
  button.disabled = true;
  try {
    await upload(form);
  } catch (error) {
    const said = Object.assign(document.createElement("p"), { className: "flash bad", textContent: error.message });
    said.setAttribute("role", "alert");
    form.querySelector(".uploads").append(said);
  } finally {
    button.disabled = false;
  }
});
