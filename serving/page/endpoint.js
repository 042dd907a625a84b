// Requests to the endpoint that serves this page. Knows no page.

const MAX_TRIES = 5;

/** The endpoint needs a token, or another one than was sent. */
export class TokenNeeded extends Error {}

/** The address of the endpoint, with a slash at its end. */
export function endpointUrl() {
  return new URL(".", document.baseURI).href;
}

/** Whether this tab remembers a token. */
export function hasToken() {
  return sessionStorage.getItem("token") !== null;
}

/** Keeps a token until the tab is closed. */
export function rememberToken(token) {
  sessionStorage.setItem("token", token);
}

/**
 * Sends a request, with the token that this tab remembers; returns the body of the response.
 *
 * While the endpoint is busy it is asked again, when it says so.
 */
export async function fetchJson(path, options = {}) {
  let response = await send(path, options);
  for (let tries = 1; response.status === 503 && tries < MAX_TRIES; tries++) {
    const { error } = await response
      .clone()
      .json()
      .catch(() => ({}));
    if (error?.code !== "busy") break;
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    response = await send(path, options);
  }
  if (response.ok) return response.json();

  const body = await response.json().catch(() => null);
  if (response.status === 401) {
    throw new TokenNeeded(hasToken() ? "The endpoint does not take this token." : "");
  }
  throw new Error(errorMessage(body?.error, response.status));
}

async function send(path, options) {
  const token = sessionStorage.getItem("token");
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return await fetch(path, { ...options, headers: { ...options.headers, ...authorization } });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error("The endpoint does not answer. Is it running?");
  }
}

function errorMessage(error, status) {
  if (!error) return `The endpoint failed with status ${status}.`;
  return error.where ? `${error.message} (at ${error.where})` : error.message;
}
