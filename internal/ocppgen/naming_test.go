package main

import "testing"

func TestNames(t *testing.T) {
	for name, want := range map[string]struct{ goName, file string }{
		"evseId":                        {"EVSEID", "evse_id.go"},
		"idTag":                         {"IDTag", "id_tag.go"},
		"evseIds":                       {"EVSEIDs", "evse_ids.go"},
		"ocppCsmsUrl":                   {"OCPPCSMSURL", "ocpp_csms_url.go"},
		"responderURL":                  {"ResponderURL", "responder_url.go"},
		"iso15118CertificateHashData":   {"ISO15118CertificateHashData", "iso_15118_certificate_hash_data.go"},
		"Get15118EVCertificate":         {"Get15118EVCertificate", "get_15118_ev_certificate.go"},
		"AFRRSignal":                    {"AFRRSignal", "afrr_signal.go"},
		"NotifyEVChargingNeeds":         {"NotifyEVChargingNeeds", "notify_ev_charging_needs.go"},
		"GetInstalledCertificateIds":    {"GetInstalledCertificateIDs", "get_installed_certificate_ids.go"},
		"evMaximumLevel1DCInjection":    {"EVMaximumLevel1DCInjection", "ev_maximum_level_1_dc_injection.go"},
		"dischargeLimit_L2":             {"DischargeLimitL2", "discharge_limit_l_2.go"},
		"targetSoC":                     {"TargetSoC", "target_soc.go"},
		"soc":                           {"SoC", "soc.go"},
		"numEPriceLevels":               {"NumEPriceLevels", "num_eprice_levels.go"},
		"v2xChargingParameters":         {"V2XChargingParameters", "v2x_charging_parameters.go"},
		"Energy.Active.Import.Register": {"EnergyActiveImportRegister", "energy_active_import_register.go"},
		"L1-N":                          {"L1N", "l_1_n.go"},
		"kWh":                           {"KWh", "kwh.go"},
		"eMAID":                         {"EMAID", "e_maid.go"},
		"sCEE-7-7":                      {"SCEE77", "s_cee_7_7.go"},
		"IPSec":                         {"IPSec", "ip_sec.go"},
	} {
		if got := goName(name); got != want.goName {
			t.Errorf("%s: %s, want %s", name, got, want.goName)
		}
		if got := fileName(name); got != want.file {
			t.Errorf("%s: %s, want %s", name, got, want.file)
		}
	}
}
