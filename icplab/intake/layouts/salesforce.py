"""Declares the exports of Salesforce: Data Export files with API names, and report files with labels."""

from __future__ import annotations

from icplab.intake.layouts.declare import Link, Object, feed, native_object, words

SYSTEM = "Salesforce"

# Plain names of columns that are bookkeeping of the CRM, personal data or long text.
BOOKKEEPING = r"""^(
  systemmodstamp | lastmodified\w* | lastviewed\w* | lastreferenced\w* | lastactivity\w* | lastcu\w+ | createdby\w*
  | createddate | (account|opportunity|contact|lead|campaign)?owner(id|alias|role|name)? | isdeleted | masterrecordid
  | photourl | \w*latitude | \w*longitude | \w*geocodeaccuracy | \w*address\d? | \w*(street|city|postalcode|zip\w*)
  | jigsaw\w* | iscustomerportal | ispartner | cleanstatus | dandbcompanyid | dunsnumber | \w*recordtypeid | individualid
  | activitymetric\w*id | operatinghoursid | pricebook2id | contractid | syncedquoteid | iqscore | externalid
  | (\w*)(phone|mobile|fax|email)(\w*) | firstname | lastname | salutation | birthdate | assistantname | reportstoid
  | description | accountdescription | comments | name | opportunityname | accountname | accountid | contactid
  | (account|opportunity|contact|lead|campaign|case|task|activity)id | id | nextstep | subject
  | \w*currencyisocode | \w*currency
)$"""
# Of an opportunity, besides: what restates its outcome or is known only because it closed.
OUTCOME = r"""^(
  probability | forecastcategory\w* | fiscal | fiscalquarter | fiscalyear | fiscalperiod | isclosed | iswon | won | closed
  | expectedrevenue\w* | age | stageduration | laststagechange\w* | lastamountchanged\w* | lastclosedatechanged\w*
  | pushcount | hasopenactivity | hasoverduetask | hasopportunitylineitem | closedate | closedwon\w* | amount\w*
  | totalopportunityquantity | quantity | stage | stagename | isprivate | isexcludedfromterritory2filter
)$"""
_RECORD = r"""
    ~deleted : IsDeleted | Deleted
    ~modified : LastModifiedDate | Last Modified Date | SystemModstamp
"""
_BY_ACCOUNT = (Link("account_id", "~account_name", "accounts.name", "account_id"),)
_BY_OPPORTUNITY = (Link("opportunity_id", "~opportunity_name", "opportunities.~name", "opportunity_id"),)

ACCOUNT_TYPES = words("""
    prospect : Prospect, Target, Suspect, Other, Prospective Customer
    customer : Customer, Customer - Direct, Customer - Channel, Current Customer, Client, Active Customer
    former : Former Customer, Former, Past Customer, Churned, Churned Customer, Inactive Customer, Ex-Customer
    partner : Partner, Channel Partner / Reseller, Installation Partner, Technology Partner, Reseller, Integrator
    competitor : Competitor
    "" : Analyst, Investor, Press, Vendor, Supplier
""")
OPPORTUNITY_TYPES = words("""
    new : New, New Business, New Customer, New Logo, New Deal, Net New
    expansion : Expansion, Existing Business, Existing Customer, Existing Customer - Upgrade, Upsell, Up-sell, Cross-sell
    expansion : Existing Customer - Replacement, Existing Customer - Downgrade, Add-On, Add-On Business, Upgrade
    renewal : Renewal, Renewals, Existing Customer - Renewal, Contract Renewal, Renewal Business
""")
STATUSES = words("""
    won : Closed Won, Won
    lost : Closed Lost, Lost
    open : Prospecting, Qualification, Needs Analysis, Value Proposition, Id. Decision Makers, Perception Analysis
    open : Proposal/Price Quote, Negotiation/Review
""")

ACCOUNT = native_object(
    SYSTEM,
    "accounts",
    [
        feed(
            "accounts",
            """
            account_id : Id | Account ID | Account ID (18) | 18 Digit Account ID | Account Name
            name : Name | Account Name
            domain : Website | Domain
            industry : Industry
            employees : NumberOfEmployees | Employees
            annual_revenue : Annual Revenue (converted) | AnnualRevenue
            country : BillingCountry | BillingCountryCode | Billing Country/Territory | ShippingCountry | Country
            region : Region | Sales Region
            founded_year : YearStarted | Founded Year
            parent_account_id : ParentId | Parent Account ID
            ~parent_name : Parent Account
            created_at : CreatedDate
            account_type : Type | Account Type
            owner : OwnerId | Account Owner ID | Account Owner | Account Owner Alias
            linkedin_url : LinkedIn URL | LinkedIn Company Page
            ~master : MasterRecordId
            """
            + _RECORD,
            values={"account_type": ACCOUNT_TYPES},
            links=(Link("parent_account_id", "~parent_name", "accounts.name", "account_id"),),
        )
    ],
    files="account accounts",
    signs=(
        *(
            f"Id + Name + {n}"
            for n in ("Industry", "BillingCountry", "NumberOfEmployees", "ParentId", "Website", "Type")
        ),
        *(
            f"{key} + {n}"
            for key in ("Account ID", "Account Name")
            for n in (
                "Account Owner",
                "Industry",
                "Employees",
                "Billing Country",
                "Billing State/Province",
                "Annual Revenue",
                "Website",
            )
        ),
    ),
    without="StageName | Stage | Opportunity ID | Opportunity Name | Company | LastName | Last Name | CloseDate | Lead ID"
    " | CampaignId | Subject | Contact ID | First Name | StartDate | CaseNumber | Member Status",
    aside=BOOKKEEPING,
)

OPPORTUNITY = native_object(
    SYSTEM,
    "opportunities",
    [
        feed(
            "opportunities",
            """
            opportunity_id : Id | Opportunity ID | Opportunity ID (18) | 18 Digit Opportunity ID | Opportunity Name
            ~name : Name | Opportunity Name
            account_id : AccountId | Account ID (18) | 18 Digit Account ID
            ~account_name : Account Name
            created_at : CreatedDate
            closed_at : CloseDate
            stage : StageName | Stage
            is_won : IsWon | Won
            is_closed : IsClosed | Closed
            amount : Amount
            currency : CurrencyIsoCode | Amount Currency | Currency | Opportunity Currency
            ~converted : Amount (converted)
            ~converted_currency : Amount (converted) Currency
            type : Type | Opportunity Type
            source : LeadSource | Opportunity Source
            campaign_id : CampaignId | Primary Campaign Source ID
            ~campaign_name : Primary Campaign Source
            owner : OwnerId | Opportunity Owner ID | Opportunity Owner | Opportunity Owner Alias
            loss_reason : Loss Reason | Closed Lost Reason | Reason Lost | Lost Reason
            product : Product | Primary Product | Product Name
            term_months : Term Months | Contract Term (months) | Contract Term Months
            gross_margin : Gross Margin
            """
            + _RECORD,
            values={"status": STATUSES, "type": OPPORTUNITY_TYPES},
            links=(*_BY_ACCOUNT, Link("campaign_id", "~campaign_name", "campaigns.name", "campaign_id")),
        )
    ],
    files="opportunity opportunities",
    signs=(
        *(f"Id + StageName + {n}" for n in ("Name", "AccountId", "IsWon", "IsClosed", "LeadSource")),
        "Id + AccountId + CloseDate",
        *(
            f"{key} + {n}"
            for key in ("Opportunity ID", "Opportunity Name")
            for n in ("Stage", "Close Date", "Won", "Amount")
        ),
    ),
    without="Contact Role | Contact ID | From Stage | To Stage | SortOrder | NewValue",
    aside=f"{BOOKKEEPING}|{OUTCOME}",
)

CONTACT = native_object(
    SYSTEM,
    "contacts",
    [
        feed(
            "contacts",
            """
            contact_id : Id | Contact ID | Contact ID (18)
            account_id : AccountId | Account ID (18)
            ~account_name : Account Name
            title : Title
            role : Role | Buying Role
            seniority : Seniority | Level
            department : Department
            email : Email
            opted_out : HasOptedOutOfEmail | Email Opt Out
            ~master : MasterRecordId
            """
            + _RECORD,
            links=_BY_ACCOUNT,
        )
    ],
    files="contact contacts",
    signs=(
        "Id + AccountId + LastName",
        "Id + LastName + AccountId",
        "Contact ID + Account Name",
        "Contact ID + Account ID",
        "Contact ID + Last Name",
        "Id + AccountId + Email + Title",
    ),
    without="StageName | Company | Opportunity ID | Opportunity Name | OpportunityId | CaseNumber | Subject | CampaignId",
    aside=BOOKKEEPING,
)

CONTACT_ROLE = native_object(
    SYSTEM,
    "opportunity contact roles",
    [
        feed(
            "opportunity_contacts",
            """
            opportunity_id : OpportunityId
            ~opportunity_name : Opportunity Name
            contact_id : ContactId
            role : Role | Contact Role
            is_primary : IsPrimary | Primary
            """
            + _RECORD,
            links=_BY_OPPORTUNITY,
        )
    ],
    files="opportunitycontactrole",
    signs=(
        "OpportunityId + ContactId + Role",
        "OpportunityId + ContactId + IsPrimary",
        "Opportunity Name + Contact ID + Role",
        "Opportunity Name + Contact ID + Contact Role",
    ),
    aside=BOOKKEEPING,
)

STAGE_HISTORY = native_object(
    SYSTEM,
    "opportunity history",
    [
        feed(
            "stage_history",
            """
            opportunity_id : OpportunityId
            ~opportunity_name : Opportunity Name
            stage : StageName | To Stage
            entered_at : CreatedDate | Last Modified | Last Modified Date
            ~deleted : IsDeleted
            """,
            links=_BY_OPPORTUNITY,
            reshape="first_of_run",
        )
    ],
    files="opportunityhistory",
    signs=("OpportunityId + StageName + CreatedDate", "Opportunity ID + To Stage", "Opportunity Name + To Stage"),
    aside=BOOKKEEPING,
)

_CHANGE = """
    field : Field
    changed_at : CreatedDate
    old_value : OldValue
    new_value : NewValue
    ~deleted : IsDeleted
"""
# Names of standard fields in histories, as the canonical column they fill.
ACCOUNT_FIELDS = words("""
    name : Name
    domain : Website
    employees : NumberOfEmployees
    annual_revenue : AnnualRevenue
    country : BillingCountry
    founded_year : YearStarted
    parent_account_id : Parent, ParentId
    account_type : Type
    owner : Owner, OwnerId
    industry : Industry
""")
OPPORTUNITY_FIELDS = words("""
    amount : Amount
    stage : StageName
    closed_at : CloseDate
    type : Type
    source : LeadSource
    owner : Owner, OwnerId
    campaign_id : Campaign, CampaignId
    account_id : Account, AccountId
""")

ACCOUNT_HISTORY = native_object(
    SYSTEM,
    "account history",
    [
        feed(
            "field_history",
            "record_id : AccountId\n" + _CHANGE,
            constants={"object": "accounts"},
            values={"field": ACCOUNT_FIELDS},
            reshape="field_names",
        )
    ],
    files="accounthistory",
    signs=("AccountId + Field + NewValue",),
    aside=BOOKKEEPING,
)
OPPORTUNITY_FIELD_HISTORY = native_object(
    SYSTEM,
    "opportunity field history",
    [
        feed(
            "field_history",
            "record_id : OpportunityId\n" + _CHANGE,
            constants={"object": "opportunities"},
            values={"field": OPPORTUNITY_FIELDS},
            reshape="field_names",
        ),
        feed(
            "stage_history",
            """
            opportunity_id : OpportunityId
            stage : NewValue
            entered_at : CreatedDate
            ~deleted : IsDeleted
            """,
            keep=("Field", ("stagename", "stage")),
        ),
    ],
    files="opportunityfieldhistory",
    signs=("OpportunityId + Field + NewValue",),
    aside=BOOKKEEPING,
)

LEAD = native_object(
    SYSTEM,
    "leads",
    [
        feed(
            "leads",
            """
            lead_id : Id | Lead ID | Lead ID (18)
            created_at : CreatedDate | Create Date
            account_id : ConvertedAccountId & Converted Account ID & Matched Account
            company : Company | Company / Account
            source : LeadSource | Lead Source
            campaign_id : CampaignId
            status : Status | Lead Status
            qualified_at : Qualified At | Qualified Date | MQL Date
            accepted_at : Accepted At | Accepted Date | SQL Date | ConvertedDate
            disqualified_at : Disqualified At | Disqualified Date
            disqualification_reason : Disqualification Reason | Disqualified Reason | Unqualified Reason
            opportunity_id : ConvertedOpportunityId | Converted Opportunity ID
            ~master : MasterRecordId
            """
            + _RECORD,
            links=(Link("account_id", "company", "accounts.account_id", "account_id"),),
        )
    ],
    files="lead leads",
    signs=(
        "Id + Company + Status",
        "Id + Company + LeadSource",
        "Lead ID + Lead Status",
        "Lead ID + Company / Account",
        "Id + IsConverted",
        "Id + ConvertedAccountId",
    ),
    without="StageName | Opportunity ID",
    aside=BOOKKEEPING,
)

CAMPAIGN = native_object(
    SYSTEM,
    "campaigns",
    [
        feed(
            "campaigns",
            """
            campaign_id : Id | Campaign ID | Campaign ID (18) | Campaign Name
            name : Name | Campaign Name
            channel : Type | Campaign Type | Channel
            segment : Segment
            started_at : StartDate | Start Date
            ended_at : EndDate | End Date
            """
            + _RECORD,
        )
    ],
    files="campaign campaigns",
    signs=("Id + Name + StartDate + EndDate", "Id + Name + NumberSent", "Campaign Name + Start Date"),
    without="StageName | CampaignId | Member Status",
    aside=BOOKKEEPING,
)

_ACTIVITY_LINKS = (
    Link("account_id", "~what", "accounts.account_id", "account_id"),
    Link("account_id", "~what", "opportunities.opportunity_id", "account_id"),
    Link("contact_id", "~who", "contacts.contact_id", "contact_id"),
    Link("account_id", "contact_id", "contacts.contact_id", "account_id"),
    *_BY_ACCOUNT,
)
CAMPAIGN_MEMBER = native_object(
    SYSTEM,
    "campaign members",
    [
        feed(
            "activities",
            """
            activity_id : Id | Campaign Member ID
            account_id : AccountId
            ~account_name : Account Name | Company / Account
            ~what : CompanyOrAccount
            occurred_at : FirstRespondedDate & First Responded Date & CreatedDate & Member First Associated Date
            contact_id : ContactId
            campaign_id : CampaignId
            outcome : Status | Member Status
            """
            + _RECORD,
            constants={"type": "campaign"},
            links=_ACTIVITY_LINKS,
        )
    ],
    files="campaignmember",
    signs=("Id + CampaignId + LeadId", "Id + CampaignId + ContactId", "Campaign ID + Member Status"),
    aside=BOOKKEEPING,
)

_ACTIVITY = """
    activity_id : Id | Activity ID | Task ID | Event ID
    account_id : AccountId
    ~account_name : Company / Account | Account Name
    ~what : WhatId
    ~who : WhoId
    contact_id : ContactId
    topic : Topic
    campaign_id : CampaignId
    weight : Weight
    play : Play
"""
TASK = native_object(
    SYSTEM,
    "tasks",
    [
        feed(
            "activities",
            _ACTIVITY
            + """
            occurred_at : ActivityDate & Due Date & CompletedDateTime & Date & CreatedDate
            type : Type & TaskSubtype & Task Subtype
            minutes : Minutes
            ~seconds : CallDurationInSeconds | Call Duration
            outcome : Outcome | CallDisposition | Call Result | Status
            """
            + _RECORD,
            constants={"type": "task"},
            links=_ACTIVITY_LINKS,
        )
    ],
    files="task tasks",
    signs=(
        "Id + WhoId + WhatId + Status",
        "Id + WhatId + TaskSubtype",
        "Id + WhoId + ActivityDate",
        "Activity ID + Subject",
        "Subject + Due Date + Assigned",
        "Subject + Company / Account + Date",
    ),
    without="DurationInMinutes | StartDateTime",
    aside=BOOKKEEPING,
)
EVENT = native_object(
    SYSTEM,
    "events",
    [
        feed(
            "activities",
            _ACTIVITY
            + """
            occurred_at : ActivityDate & StartDateTime & ActivityDateTime & Start & CreatedDate
            type : Type & EventSubtype
            minutes : DurationInMinutes | Duration
            outcome : Outcome
            """
            + _RECORD,
            constants={"type": "event"},
            links=_ACTIVITY_LINKS,
        )
    ],
    files="event",
    signs=("Id + WhoId + DurationInMinutes", "Id + WhatId + StartDateTime", "Id + WhoId + StartDateTime"),
    aside=BOOKKEEPING,
)
CASE = native_object(
    SYSTEM,
    "cases",
    [
        feed(
            "activities",
            """
            activity_id : Id | Case ID
            account_id : AccountId
            ~account_name : Account Name
            contact_id : ContactId
            occurred_at : CreatedDate | Date/Time Opened
            topic : Type | Case Type
            outcome : Status | Case Status
            """
            + _RECORD,
            constants={"type": "case"},
            links=_ACTIVITY_LINKS,
        )
    ],
    files="case cases",
    signs=("Id + CaseNumber", "Case Number + Account Name", "Case Number + Date/Time Opened"),
    aside=BOOKKEEPING,
)

USER = native_object(
    SYSTEM,
    "users",
    [
        feed(
            "owners",
            """
            owner : Id | User ID
            team : Team | Department | Division
            region : Region
            role : Title
            capacity : Capacity
            quota : Quota
            active_from : Active From | CreatedDate
            active_to : Active To
            """,
        )
    ],
    files="user users",
    signs=("Id + Username", "Id + ProfileId", "Id + UserRoleId", "User ID + Username"),
    aside=BOOKKEEPING,
)
PRODUCT = native_object(
    SYSTEM,
    "products",
    [
        feed(
            "products",
            """
            product : Name | Product Name
            name : Display Name | Name | Product Name
            family : Family | Product Family
            list_price : List Price
            gross_margin : Gross Margin
            ~deleted : IsDeleted
            """,
        )
    ],
    files="product2",
    signs=("Id + Name + ProductCode", "Id + Name + Family", "Product Name + Product Code"),
    without="StageName | OpportunityId",
    aside=BOOKKEEPING,
)
RATE = native_object(
    SYSTEM,
    "dated conversion rates",
    [
        feed(
            "rates",
            """
            currency : IsoCode
            valid_from : StartDate
            rate : ConversionRate
            """,
            reshape="one_by_rate",
        )
    ],
    files="datedconversionrate",
    signs=("IsoCode + StartDate + ConversionRate",),
    aside=BOOKKEEPING,
)

OBJECTS: tuple[Object, ...] = (
    ACCOUNT, OPPORTUNITY, CONTACT, CONTACT_ROLE, STAGE_HISTORY, OPPORTUNITY_FIELD_HISTORY, ACCOUNT_HISTORY, LEAD, CAMPAIGN,
    CAMPAIGN_MEMBER, TASK, EVENT, CASE, USER, PRODUCT, RATE,
)  # fmt: skip
