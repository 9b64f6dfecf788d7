-- Numbers in strings, big endian. This file is put before the scripts that use
-- it: see scripts.go.
--
-- It does with string.byte and string.char, since miniredis has neither struct
-- nor bit.

local function get48(s, i)
  local a, b, c, d, e, f = string.byte(s, i, i + 5)
  return ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
end

local function get32(s, i)
  local a, b, c, d = string.byte(s, i, i + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function put32(n)
  return string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256)
end

local function put48(n)
  return string.char(math.floor(n / 1099511627776) % 256, math.floor(n / 4294967296) % 256) ..
    put32(n % 4294967296)
end
