-- What each of wrk's threads does: load.py writes users, posts, writes and seed before this.
local threads = {}

function setup(thread)
   thread:set("id", #threads + 1)
   table.insert(threads, thread)
end

function init(args)
   math.randomseed(seed * 1000 + id)
   user = users[id]
   refused = 0
end

function request()
   local headers = { Cookie = user.cookie }
   local post = "/posts/" .. math.random(posts)
   if math.random() < writes then
      headers["Content-Type"] = "application/x-www-form-urlencoded"
      return wrk.format("POST", post .. "/comments", headers, "csrf_token=" .. user.csrf_token .. "&comment=As+I+said.")
   end
   return wrk.format("GET", math.random() < 0.3 and "/" or post, headers)
end

function response(status, headers, body)
   if status >= 400 then refused = refused + 1 end
   -- wrk shows one header of a name: the blog keeps everything in one cookie.
   local cookie = headers["Set-Cookie"]
   if cookie then user.cookie = cookie:match("^[^;]+") end
end

function done(summary, latency, requests)
   local failed = 0
   for _, thread in ipairs(threads) do failed = failed + thread:get("refused") end
   local e = summary.errors
   local broken = e.connect + e.read + e.write + e.timeout
   print(string.format(
      '{"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p90": %f, "p99": %f, "slowest": %f}',
      summary.requests + broken, summary.duration / 1e6, failed + broken, latency:percentile(50) / 1e6,
      latency:percentile(90) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
