// Requests to the endpoint that serves this page. Knows no page.

/** The endpoint needs a token, or another one than was sent. */
export class TokenNeeded extends Error {}

/** Sends a request, with the token that this tab remembers; returns the body of the response. */
export async function fetchJson(path, options = {}) {
  const response = await send(path, options);
  if (response.ok) return response.json();

  const body = await response.json().catch(() => null);
  const message = errorMessage(body?.error, response.status);
  throw response.status === 401 ? new TokenNeeded(message) : new Error(message);
}

/** Keeps a token until the tab is closed. */
export function rememberToken(token) {
  sessionStorage.setItem("token", token);
}

async function send(path, options) {
  const token = sessionStorage.getItem("token");
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return await fetch(path, { ...options, headers: { ...options.headers, ...authorization } });
  } catch {
    throw new Error("The endpoint does not answer. Is it running?");
  }
}

function errorMessage(error, status) {
  if (!error) return `The endpoint failed with status ${status}.`;
  return error.where ? `${error.message} (at ${error.where})` : error.message;
}
