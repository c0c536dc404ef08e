package ocpp

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ in, keep string }{
		{`[2,"1","ChangeConfiguration",{"key":"AuthorizationKey","value":"SECRET"}]`, "AuthorizationKey"},
		{`[2,"1","ChangeConfiguration",{"key":"authorizationKEY","value":"SECRET"}]`, "ChangeConfiguration"},
		{`[3,"1",{"configurationKey":[{"key":"A","readonly":false,"value":"plain"},{"key":"AuthorizationKey","readonly":false,"value":"SECRET"}]}]`, "plain"},
		{`[2,"1","SetVariables",{"setVariableData":[{"attributeValue":"SECRET","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}]`, "SecurityCtrlr"},
		{`[2,"1","SetNetworkProfile",{"configurationSlot":1,"connectionData":{"basicAuthPassword":"SECRET","vpn":{"server":"plain","password":"SECRET"}}}]`, "plain"},
		{`[2,"1","SetNetworkProfile",{"connectionData":{"vpn":{"server":"plain","password":"SECRET","key":"SECRET"}}}]`, "plain"},
		{`[2,"1","NotifyReport",{"reportData":[{"component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"},"variableAttribute":[{"type":"Actual","value":"SECRET"}]}]}]`, "Actual"},
		{`[2,"1","GetDiagnostics",{"location":"ftp://user:SECRET@host/plain"}]`, "host/plain"},
		{`[2,"1","DataTransfer",{"vendorId":"plain","data":"{\"password\":\"SECRET\"}"}]`, "plain"},
		{`[2,"1","DataTransfer",{"vendorId":"plain","data":{"password":"SECRET"}}]`, "plain"},
		{`[2,"1","X",{"password":"SECRET"`, Redacted},
		{`[2,"1","Heartbeat",{}]`, `[2,"1","Heartbeat",{}]`},
	} {
		got := string(Redact([]byte(tt.in)))
		if strings.Contains(got, "SECRET") || !strings.Contains(got, tt.keep) {
			t.Errorf("Redact(%s) = %s", tt.in, got)
		}
	}
}
