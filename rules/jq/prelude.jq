def empty: {}[] as $x | .;
def error: error_empty as $x | .;
def error(msgs): (msgs | error_empty) as $x | .;

def null: [][0];
def true: 0 == 0;
def false: 0 != 0;
def not: if . then false else true end;
def select(f): if f then . else empty end;
def tostring: "\(.)";

def range(from; to): range(from; to; 1);
def range(to): range(0; to);
def recurse: ..;

def isboolean: . == true or . == false;
def isnumber: . > true and . < "";
def isstring: . >= "" and . < [];
def isarray: . >= [] and . < {};
def isobject: . >= {};
def type:
    if . == null then "null"
  elif isboolean then "boolean"
  elif . < "" then "number"
  elif . < [] then "string"
  elif . < {} then "array"
  else "object" end;
def values: select(. != null);
def nulls: select(. == null);
def booleans: select(isboolean);
def numbers: select(isnumber);
def strings: select(isstring);
def arrays: select(isarray);
def objects: select(isobject);
def iterables: select(. >= []);
def scalars: select(. < []);
def tonumber: if isnumber then . else _number end;
def toboolean: if isboolean then . elif . == "true" then true elif . == "false" then false else error("cannot parse as boolean") end;

def nan: 0 / 0;
def infinite: 1 / 0;
def isnan: . < nan and nan < .;
def isinfinite: . == infinite or . == -infinite;
def abs: if . < 0 then - . end;

def paths: skip(1; path(..));
def getpath($path): reduce $path[] as $p (.; .[$p]);
def setpath($path; $x): getpath($path) = $x;
def delpaths($paths): reduce $paths[] as $path (.; getpath($path) |= empty);
def map(f): [.[] | f];
def map_values(f): .[] |= f;
def walk(f): .. |= f;
def del(f): f |= empty;

def first: .[0];
def last: .[-1];
def nth(n): .[n];
def nth(n; g): first(skip(n; g));
def isempty(g): first((g | false), true);
def all(g; cond): isempty(g | cond and empty);
def any(g; cond): isempty(g | cond or empty) | not;
def all(cond): all(.[]; cond);
def any(cond): any(.[]; cond);
def all: all(.[]; .);
def any: any(.[]; .);

def todateiso8601: todate;
def fromdateiso8601: fromdate;
def date: todate;
def dateadd(u; n): . + n;
def datesub(u; n): . - n;

def add: [.[]] | _sum;
def add(f): [f] | _sum;
def join($s): [.[]] | _join($s);
def keys: keys_unsorted | sort;
def to_entries: [key_values[] as [$key, $value] | { $key, $value }];
def from_entries: [{}, (.[] | { (.key): .value })] | _sum;
def with_entries(f): to_entries | map(f) | from_entries;
def min_by(f): reduce min_by_or_empty(f) as $x (null; $x);
def max_by(f): reduce max_by_or_empty(f) as $x (null; $x);
def min: min_by(.);
def max: max_by(.);
def unique_by(f): [group_by(f)[] | .[0]];
def unique: unique_by(.);
def flatten: flatten(1000);
def transpose: [range([.[] | length] | max) as $i | [.[][$i]]];
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i)[0];
def rindex($i): indices($i)[-1];
def split($sep): if isstring and ($sep | isstring) then . / $sep else error("split input and separator must be strings") end;

def @text: "\(.)";
def @json: tojson;
def @html: tostring | _html;
def @uri: tostring | _uri;
def @base64: tostring | _base64;
def @base64d: tostring | _base64d;
