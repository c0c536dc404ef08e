package action16

import (
	"holdfast/ocpp/v16"
	"holdfast/store"
)

// changeConfiguration keeps the value that the station took over.
func changeConfiguration(request *v16.ChangeConfigurationRequest, answer *v16.ChangeConfigurationResponse) []store.Variable {
	if answer.Status != v16.ConfigurationStatusAccepted && answer.Status != v16.ConfigurationStatusRebootRequired {
		return nil
	}
	return []store.Variable{{VariableKey: store.VariableKey{Variable: request.Key}, Value: request.Value}}
}
