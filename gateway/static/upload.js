/**
 * Announce a file to the gateway, then send its bytes straight to the storage.
 *
 * Everything that can go wrong comes out as a Problem: a key of strings.js, never a status.
 */

/** `key` is the part after `problem_`; `field` and `detail` are the server's own words. */
export class Problem extends Error {
  constructor(key, { field, detail } = {}) {
    super(detail ?? key);
    Object.assign(this, { key, field, detail });
  }
}

/** What some browsers leave empty; File.type tells the rest. */
const TYPES = {
  m2ts: "video/mp2t",
  mkv: "video/x-matroska",
  mov: "video/quicktime",
  mts: "video/mp2t",
  mxf: "application/mxf",
  ts: "video/mp2t",
};

/** Set by the browser, which refuses anyone else's. */
const OWN_HEADERS = ["content-length", "host"];

export function contentTypeOf(file) {
  const extension = file.name.split(".").at(-1).toLowerCase();
  return file.type || (TYPES[extension] ?? "application/octet-stream");
}

/** `POST /v1/files`; the answer {file, upload, watch}. */
export async function announce(file, apiKey) {
  let response;
  try {
    response = await fetch("/v1/files", {
      method: "POST",
      headers: { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" },
      body: JSON.stringify({
        name: file.name,
        content_type: contentTypeOf(file),
        size: file.size,
      }),
    });
  } catch {
    throw new Problem("gateway_away");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw refusal(response.status, body);
}

const BY_CODE = {
  invalid: "invalid",
  unauthorized: "unauthorized",
  too_large: "too_large_here",
  unavailable: "unavailable",
};

/** For what stands between us and the gateway, and knows no problem+json. */
const BY_STATUS = {
  401: "unauthorized",
  403: "unauthorized",
  413: "too_large_here",
  429: "unavailable",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

/** The gateway's problem+json, by the code that ends its `type`, else by the status. */
export function refusal(status, problem) {
  const code = problem?.type?.split(":").at(-1);
  const otherwise = status < 500 ? "invalid" : "internal";
  return new Problem(BY_CODE[code] ?? BY_STATUS[status] ?? otherwise, problem ?? {});
}

/**
 * PUT the bytes; resolves once the storage has them all.
 *
 * `onProgress(sentBytes)`; `signal` cancels, then it rejects with the signal's reason.
 */
export function send(file, upload, { onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const settle = (act, value) => {
      signal.removeEventListener("abort", cancel);
      act(value);
    };
    const cancel = () => {
      settle(reject, signal.reason);
      xhr.abort();
    };
    xhr.upload.onprogress = (event) => onProgress(event.loaded);
    xhr.onload = () => {
      if (xhr.status < 300) settle(resolve);
      else settle(reject, storageRefusal(xhr.status, xhr.responseText));
    };
    xhr.onerror = async () => {
      settle(reject, new Problem((await readable(file)) ? "network" : "unreadable"));
    };
    xhr.open(upload.method, upload.url);
    for (const [name, value] of Object.entries(upload.headers)) {
      if (!OWN_HEADERS.includes(name.toLowerCase())) xhr.setRequestHeader(name, value);
    }
    signal.addEventListener("abort", cancel);
    xhr.send(file);
  });
}

function storageRefusal(status, xml) {
  if (status === 412) return new Problem("upload_used");
  if (status === 413 || xml.includes("EntityTooLarge")) return new Problem("too_large_here");
  if (status === 403) {
    return new Problem(/expired/i.test(xml) ? "upload_expired" : "upload_refused");
  }
  return new Problem(status < 500 ? "upload_bad" : "storage");
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
