"""Reads the rows of a run, makes import tables: HubSpot companies, Salesforce accounts, audiences."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from icplab.activation.rows import TARGETS
from icplab.core.model import RANKED


def hubspot_companies(rows: pd.DataFrame) -> pd.DataFrame:
    ranked, known = rows["tier"].isin(RANKED), rows["tier"] != "insufficient"
    target = np.where(~known, "", np.where(rows["tier"].isin(TARGETS), "true", "false"))
    return pd.DataFrame(
        {
            "Record ID": rows["account_id"],
            "name": rows["name"],
            "domain": rows["domain"],
            "hs_ideal_customer_profile": rows["tier"].where(ranked, ""),
            "hs_is_target_account": target,
            "icp_segment": rows["segment_id"],
            "icp_segment_name": rows["segment"],
            "icp_fit_score": rows["fit_score"],
            "icp_intent_score": rows["intent_score"],
            "icp_win_probability": rows["win_probability"],
            "icp_expected_value": rows["expected_value"],
            "icp_reasons": rows["why"],
            "icp_hold_out": rows["hold_out"],
            "icp_motion": rows["motion"],
            "icp_segment_points": rows["segment_points"],
            "icp_as_of": rows["as_of"],
            "icp_model_version": rows["model_version"],
        }
    )


def salesforce_accounts(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Id": rows["account_id"],
            "ICP_Tier__c": rows["tier"],
            "ICP_Segment__c": rows["segment_id"],
            "ICP_Fit_Score__c": rows["fit_score"],
            "ICP_Intent_Score__c": rows["intent_score"],
            "ICP_Win_Probability__c": rows["win_probability"],
            "ICP_Expected_Value__c": rows["expected_value"],
            "ICP_Reasons__c": rows["why"],
            "ICP_Hold_Out__c": rows["hold_out"],
            "ICP_Motion__c": rows["motion"],
            "ICP_Segment_Points__c": rows["segment_points"],
            "ICP_As_Of__c": rows["as_of"],
            "ICP_Model_Version__c": rows["model_version"],
        }
    )


def company_audience(rows: pd.DataFrame) -> pd.DataFrame:
    """Company list: headers as in LinkedIn's template. Customers belong to success, not to ads."""
    aimed = rows["tier"].isin(TARGETS) & (rows["hold_out"] != "yes") & ~rows["is_customer"].fillna(False).astype("bool")
    part = rows[aimed & (rows["name"].notna() | rows["domain"].notna())]
    return pd.DataFrame(
        {
            "companyname": part["name"],
            "companywebsite": part["domain"],
            "companypageurl": part["linkedin_url"],
        }
    )


def people_audience(rows: pd.DataFrame, contacts: pd.DataFrame) -> pd.DataFrame:
    """SHA-256 of lower-cased, trimmed addresses; who opted out is left out."""
    aimed = rows[rows["tier"].isin(TARGETS) & (rows["hold_out"] != "yes")]
    part = contacts[
        contacts["account_id"].isin(aimed["account_id"]) & ~contacts["opted_out"].fillna(False).astype("bool")
    ]
    address = part["email"].dropna().str.strip().str.lower()
    return pd.DataFrame({"email": sorted({hashlib.sha256(a.encode()).hexdigest() for a in address if a})})
