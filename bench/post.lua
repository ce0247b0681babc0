-- Posts DEV results, each of another call.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  n = 0
  run = args[1]
end

local form = "phone_number=1%03d%07d&message_reference=appt-%s-%d-%d&call_id=%d&result=Completed&callee_type=voice"
  .. "&attempts=1&last_attempt_timestamp=Mon%%2C+19+Jul+2004+13%%3A46%%3A03+-0400&duration=37"
local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }

function request()
  n = n + 1
  return wrk.format("POST", nil, headers, string.format(form, 201 + n % 780, 2000000 + (n * 7919) % 7999999, run, id, n, n))
end
