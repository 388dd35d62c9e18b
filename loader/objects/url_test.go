package objects

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	for s, want := range map[string]address{
		"s3://models":                    {"models", "", "s3.us-east-1.amazonaws.com", true, "us-east-1", "auto"},
		"s3://models/":                   {"models", "", "s3.us-east-1.amazonaws.com", true, "us-east-1", "auto"},
		"s3://models/a/b/?region=eu-1":   {"models", "a/b/", "s3.eu-1.amazonaws.com", true, "eu-1", "auto"},
		"s3://m.x-1?addressing=path":     {"m.x-1", "", "s3.us-east-1.amazonaws.com", true, "us-east-1", "path"},
		"s3://mod?endpoint=http://h:90":  {"mod", "", "h:90", false, "us-east-1", "auto"},
		"s3://mod?endpoint=https://h:9/": {"mod", "", "h:9", true, "us-east-1", "auto"},
	} {
		if got, err := parseURL(s, getenv); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"models/prod":                        "is no URL of a bucket",
		"https://models":                     "is no URL of a bucket",
		"s3://key:secret@models":             "credentials do not belong in it",
		"s3://":                              `bucket ""`,
		"s3://Models":                        `bucket "Models"`,
		"s3://models?endpoint=h:90":          `endpoint "h:90"`,
		"s3://models?endpoint=http://h/path": `endpoint "http://h/path"`,
		"s3://models?region=":                `parameter "region"`,
		"s3://models?region=a&region=b":      `parameter "region"`,
		"s3://models?region=A%20B":           `region "A B"`,
		"s3://models?path-style=true":        `parameter "path-style"`,
		"s3://models?addressing=dns":         `addressing "dns"`,
		"s3://models#x":                      "is no URL of a bucket",
		"s3://mod%zz":                        "invalid URL escape",
	} {
		if a, err := parseURL(s, getenv); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", s, a, err, want)
		}
	}
	env["AWS_REGION"], env["AWS_ENDPOINT_URL"] = "eu-2", "http://all:1"
	if a, err := parseURL("s3://models", getenv); err != nil || a.region != "eu-2" || a.endpoint != "all:1" {
		t.Errorf("from the environment: %+v, %v", a, err)
	}
	env["AWS_ENDPOINT_URL_S3"] = "http://s3:1"
	if a, err := parseURL("s3://models?region=here", getenv); err != nil || a.region != "here" || a.endpoint != "s3:1" {
		t.Errorf("the URL and the closer variable come first: %+v, %v", a, err)
	}
}
