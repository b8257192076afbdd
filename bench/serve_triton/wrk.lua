-- A request made beforehand: its body from a file, the length of its JSON, a path.
local body = io.open(os.getenv("BODY"), "rb"):read("*a")
wrk.method = "POST"
wrk.headers["Inference-Header-Content-Length"] = os.getenv("HEAD")
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = body

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'JSON {"answered": %d, "failed": %d, "seconds": %f, "p50_s": %f, "p99_s": %f}\n',
    summary.requests - errors.status, failed, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
